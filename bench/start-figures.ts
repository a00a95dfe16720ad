import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import type { Figure } from "./support/figure.ts";
import { startServiceProcess } from "./support/service-process.ts";
import type { Workbench } from "./support/workbench.ts";

/** The start of the service with the embedded PostgreSQL, until it is ready: on an empty folder, and again. */
export async function startFigures({ folder }: Workbench): Promise<Figure[]> {
  const dataDir = join(folder, "start");
  await mkdir(dataDir);
  const secondsToReady = async () => {
    await using service = await startServiceProcess({ DATA_DIR: dataDir });
    return service.secondsToReady;
  };
  return [
    { name: "first start with the embedded server: ready", value: await secondsToReady(), unit: "s" },
    {
      name: "second start with the embedded server: ready",
      value: await secondsToReady(),
      unit: "s",
      goal: { of: "value", atMost: 2 },
    },
  ];
}
