import { afterAll, beforeAll, expect, it } from "@jest/globals";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmdirSync } from "node:fs";
import { chmod, mkdtemp, rm, statfs, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "pg";
import { urlOfRunningPostgres } from "../src/database/embedded/embedded-postgres.ts";
import { ApiClient, type Answer } from "./support/api-client.ts";
import { needsSystem, runs } from "./support/needs.ts";
import { startServiceProcess } from "./support/service-process.ts";
import { startService } from "./support/service.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

const mebibyte = 1024 ** 2;

let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "storage-room-"));
  // If run as root, PostgreSQL runs as another user, who must be able to enter.
  await chmod(folder, 0o711);
});

afterAll(async () => {
  await rm(folder, { recursive: true });
});

const codeOf = ({ status, errors }: Answer) => [status, errors?.[0]?.extensions.code];
const storageOf = async (url: string) => {
  const response = await fetch(`${url}/readyz`);
  const { checks } = (await response.json()) as { checks: { storage: string } };
  return [response.status, checks.storage];
};

it("refuses uploads before they begin if the disk has less than the reserve, but allows reading and deleting", async () => {
  const env = { DATA_DIR: join(folder, "data") };
  const wav = sineWav({ seconds: 0.5 });
  let ann;
  let record: { id: string; url: string };
  {
    await using service = await startServiceProcess({ ...env, DISK_RESERVE_BYTES: "0" });
    const client = new ApiClient(service.url);
    ann = await client.createUser();
    record = (await client.uploadRecord(ann, wav)).data.uploadRecord.record;
    expect(await storageOf(service.url)).toEqual([200, "ok"]);
  }
  await using service = await startServiceProcess({ ...env, DISK_RESERVE_BYTES: `${2 ** 50}` });
  const client = new ApiClient(service.url);
  // If the file were read, it would be refused as UNSUPPORTED_MEDIA.
  const answer = await client.uploadRecord(ann, Buffer.from("not a WAV"));
  expect(codeOf(answer)).toEqual([507, "STORAGE_FULL"]);
  expect(answer.headers.get("retry-after")).toBe("60");
  expect(answer.errors![0]!.message).toContain("Stored recordings can be read and deleted");
  expect(await storageOf(service.url)).toEqual([503, "the disk has less free space than DISK_RESERVE_BYTES"]);
  const { pathname, search } = new URL(record.url);
  expect((await fetch(`${service.url}${pathname}${search}`)).status).toBe(200);
  const { data } = await client.run(`mutation { deleteRecord(id: "${record.id}") { deletedId } }`, {}, ann);
  expect(data.deleteRecord.deletedId).toBe(record.id);
});

it("refuses uploads when the database is as large as it may be", async () => {
  await using service = await startService({ MAX_DATABASE_BYTES: `${mebibyte}` });
  const client = new ApiClient(service.url);
  const ann = await client.createUser();
  expect(codeOf(await client.uploadRecord(ann, sineWav({ seconds: 0.1 })))).toEqual([507, "STORAGE_FULL"]);
  expect(await storageOf(service.url)).toEqual([503, "the database has reached MAX_DATABASE_BYTES"]);
});

/** Mounts a small disk in memory. */
async function mountSmallDisk(bytes: number): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(folder, "disk-"));
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${bytes},mode=711`, "tmpfs", path], { stdio: "ignore" });
  return {
    path,
    [Symbol.asyncDispose]: async () => void execFileSync("umount", [path]),
  };
}

/** Whether this process may mount a disk, as root may outside of most containers. */
function mayMount(): boolean {
  const path = mkdtempSync(join(tmpdir(), "storage-room-"));
  try {
    return runs("mount", "-t", "tmpfs", "-o", "size=4096", "tmpfs", path) && runs("umount", path);
  } finally {
    rmdirSync(path);
  }
}

/**
 * Prepares the database so that the table runs out of space before PostgreSQL's log does, which would end the server.
 * The vacuum creates the files that a later vacuum needs.
 */
async function beginLogFile(databaseUrl: string): Promise<void> {
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  try {
    for (const statement of [
      "vacuum mp3_chunk",
      "checkpoint",
      "select pg_switch_wal()",
      "select pg_logical_emit_message(true, '', '')",
    ]) {
      await client.query(statement);
    }
  } finally {
    await client.end();
  }
}

needsSystem("the right to mount a disk", mayMount(), () => {
  it("reports a full disk, and stores again after recordings were deleted", async () => {
    await using disk = await mountSmallDisk(160 * mebibyte);
    await using service = await startServiceProcess({
      DATA_DIR: join(disk.path, "data"),
      DISK_RESERVE_BYTES: "0",
      NEW_USER_DAYS: "0",
    });
    const client = new ApiClient(service.url);
    const ann = await client.createUser();
    const wav = sineWav({ seconds: 120, channels: 1, sampleRateHz: 22_050 });
    const upload = async () => await client.uploadRecord(ann, wav, { fields: "id url sizeBytes" });
    const { data } = await upload();
    const { url, sizeBytes } = data.uploadRecord.record;

    await beginLogFile(await urlOfRunningPostgres(join(disk.path, "data")));
    const { bavail, bsize } = await statfs(disk.path);
    await writeFile(join(disk.path, "ballast"), Buffer.alloc(bavail * bsize - mebibyte / 2));
    const ids: string[] = [data.uploadRecord.record.id];
    let refusal: Answer | undefined;
    for (let count = 0; !refusal && count < 20; count++) {
      const answer = await upload();
      if (answer.status === 200) ids.push(answer.data.uploadRecord.record.id);
      else refusal = answer;
    }
    expect(codeOf(refusal!)).toEqual([507, "STORAGE_FULL"]);
    expect(await storageOf(service.url)).toEqual([503, "the disk or the bucket is full"]);
    expect((await (await fetch(url)).arrayBuffer()).byteLength).toBe(sizeBytes);

    const deleting = "mutation ($ids: [ID!]!) { deleteRecords(ids: $ids) { deletedIds } }";
    const { data: deleted } = await client.run(deleting, { ids }, ann);
    expect(deleted.deleteRecords.deletedIds).toHaveLength(ids.length);
    expect(
      await until(
        async () => (await upload()).status,
        (status) => status === 200,
      ),
    ).toBe(200);
  });
});
