import { expect, it } from "@jest/globals";
import { startServiceProcess } from "./support/service-process.ts";
import { createTestDatabase } from "./support/test-database.ts";
import { until } from "./support/until.ts";

it("logs the route of a request, and nothing that somebody has put into its address", async () => {
  await using database = await createTestDatabase();
  await using service = await startServiceProcess({ DATABASE_URL: database.url });
  const secret = "uzWmS3cr3tS3cr3tS3cr3tS3cr3tS3cr";
  const paths = [
    `/l/${secret}`,
    `/l/%75${secret.slice(1)}`,
    `/l/${secret}.mp3`,
    `/l/${secret}/take.mp3`,
    `/l/${secret}/waveform.png`,
    `/play/${secret}`,
    `/listen/${secret}`,
    `/listen?id=${secret}&user=1`,
    `/embed/${secret}`,
    `/oembed?url=http%3A%2F%2Flocalhost%2Flisten%2F${secret}`,
    `/record/${secret}/take.mp3?user=1`,
    `/record?id=${secret}&user=1`,
    `/${secret}`,
    `/graphql/${secret}`,
    `/${"long".repeat(1000)}${secret}`,
  ];
  for (const path of paths) await (await fetch(`${service.url}${path}`)).arrayBuffer();
  const completed = () => service.log.filter((line) => line.includes("request completed"));
  expect(await until(completed, (lines) => lines.length === paths.length)).toHaveLength(paths.length);
  expect(service.log.filter((line) => line.includes(secret.slice(1)))).toEqual([]);
  expect(Math.max(...completed().map((line) => line.length))).toBeLessThan(500);
  expect(completed().map((line) => JSON.parse(line).req.route)).toEqual(
    expect.arrayContaining(["/l/:secret", "/play/:signed", "/record", "[unknown]"]),
  );
});
