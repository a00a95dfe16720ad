import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { connect, type Socket } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import { ApiClient } from "./support/api-client.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";
import { until } from "./support/until.ts";

const rows = 24; // of 1 MiB: more than the systems on both sides buffer for a client that does not read
const env = { STALL_TIMEOUT_SECONDS: "1", SHUTDOWN_GRACE_SECONDS: "600", MAX_WAITING_BYTES: String(4 * 1024 ** 2) };

describe("players that pause", () => {
  /**
   * A service for the upload. Its stall timeout is long, because an encoder on a busy machine may pause for a second.
   */
  let patient: TestService;
  let service: TestService;
  let path: string;
  let mp3: Buffer;

  beforeAll(async () => {
    patient = await startService();
    service = await startService({ ...env, DATABASE_URL: patient.databaseUrl });
    const client = new ApiClient(patient.url);
    const { data } = await client.uploadRecord(await client.createUser(), sineWav({ seconds: 0.2 }), {
      fields: "id url",
    });
    const { id, url } = data.uploadRecord.record;
    const database = new Client({ connectionString: service.databaseUrl });
    await database.connect();
    await database.query("delete from mp3_chunk where record_id = $1 and position > 0", [id]);
    for (let position = 1; position <= rows; position += 1) {
      await database.query("insert into mp3_chunk (record_id, position, bytes) values ($1, $2, $3)", [
        id,
        position,
        randomBytes(1024 ** 2),
      ]);
    }
    await database.query(
      "update audio_record set chunk_bytes = 1048576, size_bytes = head_bytes + $2 * 1048576 where id = $1",
      [id, rows],
    );
    const { pathname, search } = new URL(url);
    path = pathname + search;
    mp3 = Buffer.from(await (await fetch(service.url + path)).arrayBuffer());
    await database.end();
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
    await patient[Symbol.asyncDispose]();
  });

  /** Requests the recording, reads a little of it, and then stops reading. */
  async function startToPlay(): Promise<{ player: Socket; taken: Buffer }> {
    const player = connect(Number(new URL(service.url).port), "127.0.0.1");
    player.on("error", () => {});
    player.write(`GET ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`);
    await once(player, "readable");
    return { player, taken: player.read() as Buffer };
  }

  /** Whether the rest of the recording is correct. */
  async function playsOn({ player, taken }: Awaited<ReturnType<typeof startToPlay>>): Promise<boolean> {
    const received = [taken];
    try {
      for await (const bytes of player) received.push(bytes as Buffer);
    } catch {
      // A connection that was cut.
    }
    const answer = Buffer.concat(received);
    return answer.subarray(answer.indexOf("\r\n\r\n") + 4).equals(mp3);
  }

  it("play to the end when they continue, and hold no database connection meanwhile", async () => {
    const players = [await startToPlay(), await startToPlay()];
    const { pool } = service.server.database;
    await until(
      () => pool.totalCount - pool.idleCount,
      (busy) => busy === 0,
    );
    await delay(3500); // well past the time after which an upload has stalled
    expect(pool.totalCount - pool.idleCount).toBe(0);
    expect(await Promise.all(players.map(playsOn))).toEqual([true, true]);
  });

  /** Open connections of the service whose client has not read everything yet, as the system lists them. */
  async function pausedConnections(): Promise<number> {
    const port = Number(new URL(service.url).port).toString(16).toUpperCase().padStart(4, "0");
    const paused = new RegExp(String.raw`^ *\d+: 0100007F:${port} \S+ 01 (?!00000000:)`, "gm");
    return [...(await readFile("/proc/net/tcp", "utf8")).matchAll(paused)].length;
  }

  it("end when there is no memory for all of them", async () => {
    const players: Awaited<ReturnType<typeof startToPlay>>[] = [];
    for (let count = 0; count < 30; count += 1) {
      players.push(await startToPlay());
    }
    // Each holds 192 KiB at least and 1152 KiB at most.
    expect(await until(pausedConnections, (count) => count <= 21)).toBeLessThanOrEqual(21);
    const whole = (await Promise.all(players.map(playsOn))).filter((isWhole) => isWhole);
    expect(whole.length).toBeGreaterThanOrEqual(3);
    expect(whole.length).toBeLessThanOrEqual(21);
  });

  it("do not delay a shutdown", async () => {
    await using other = await startService({ ...env, DATABASE_URL: service.databaseUrl });
    const player = connect(Number(new URL(other.url).port), "127.0.0.1");
    player.on("error", () => {});
    player.write(`GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`);
    await once(player, "readable");
    const atItsEnd = connect(Number(new URL(other.url).port), "127.0.0.1");
    atItsEnd.on("error", () => {});
    atItsEnd.write(`GET ${path} HTTP/1.1\r\nHost: a\r\nRange: bytes=0-99999\r\nConnection: close\r\n\r\n`);
    await once(atItsEnd, "readable");
    // Its grace period is longer than this test may take.
    await expect(other.server[Symbol.asyncDispose]()).resolves.toBeUndefined();
    player.destroy();
    atItsEnd.destroy();
  });
});
