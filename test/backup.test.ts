import { afterAll, beforeAll, beforeEach, expect, it } from "@jest/globals";
import { S3 } from "@aws-sdk/client-s3";
import { execFile } from "node:child_process";
import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { codeOf } from "./support/document-code.ts";
import { needs } from "./support/needs.ts";
import { startService, type TestService } from "./support/service.ts";
import { startStrictS3 } from "./support/strict-s3.ts";
import { startSystemPostgres, type SystemPostgres } from "./support/system-postgres.ts";
import { sineWav } from "./support/wav-maker.ts";

const page = "docs/backup.md";
const database = "web_user_music";

/** The commands of a section of the page, with another folder for backups. */
async function commands(heading: string, kind: "sh" | "sh restore" | "sh cleanup" | "conf", folder: string) {
  return (await codeOf(page, heading, kind)).replaceAll("/var/backups/music", folder);
}

/** A user and what they have uploaded. */
class Uploads {
  readonly user: Credentials;
  readonly #client: ApiClient;

  private constructor(client: ApiClient, user: Credentials) {
    this.#client = client;
    this.user = user;
  }

  static async by(name: string, { url }: TestService): Promise<Uploads> {
    const client = new ApiClient(url);
    return new Uploads(client, await client.createUser(name));
  }

  async add(seconds: number): Promise<{ id: string; path: string; bytes: Buffer }> {
    const { data } = await this.#client.uploadRecord(this.user, sineWav({ seconds, channels: 2 }));
    const { id, url } = data.uploadRecord.record;
    const { pathname, search } = new URL(url);
    const path = pathname + search;
    return { id, path, bytes: await bytesOf(await fetch(url)) };
  }

  async remove(id: string): Promise<void> {
    const { errors } = await this.#client.run(
      "mutation ($id: ID!) { deleteRecord(id: $id) { deletedId } }",
      { id },
      this.user,
    );
    if (errors) throw new Error(JSON.stringify(errors));
  }
}

const bytesOf = async (answer: Response): Promise<Buffer> => Buffer.from(await answer.arrayBuffer());
const statusOf = async ({ url }: TestService, path: string): Promise<number> => (await fetch(url + path)).status;

async function requirePlays({ url }: TestService, { path, bytes }: { path: string; bytes: Buffer }): Promise<void> {
  const answer = await fetch(url + path);
  expect([answer.status, (await bytesOf(answer)).equals(bytes)]).toEqual([200, true]);
}

/** Whether the service still knows the user's token. */
async function isKnown({ url }: TestService, { user }: Uploads): Promise<boolean> {
  const { data } = await new ApiClient(url).run("{ me { id } }", {}, user);
  return data?.me?.id === user.id;
}

it("a copied data folder plays what it had, and nothing that came later", async () => {
  await using removal = new AsyncDisposableStack();
  const folder = await mkdtemp(join(tmpdir(), "backup-"));
  removal.defer(async () => await rm(folder, { recursive: true }));
  await chmod(folder, 0o711); // so that PostgreSQL's user may enter
  const env = { DATA_DIR: join(folder, "data") };
  const run = async (kind: "sh" | "sh restore") => {
    const text = await commands("A data folder", kind, folder);
    await promisify(execFile)("bash", ["-euc", text], { env: { ...process.env, ...env } });
  };
  const settings = { ...env, DATABASE_URL: "" };
  await using first = await startService(settings);
  const ann = await Uploads.by("Ann", first);
  const kept = await ann.add(3);
  await first[Symbol.asyncDispose]();
  await run("sh");
  await using second = await startService(settings);
  const { data } = await new ApiClient(second.url).uploadRecord(ann.user, sineWav({ seconds: 1 }));
  await second[Symbol.asyncDispose]();
  await run("sh restore");
  await using third = await startService(settings);
  await requirePlays(third, kept);
  const { pathname, search } = new URL(data.uploadRecord.record.url);
  expect(await statusOf(third, pathname + search)).toBe(404);
});

needs("PostgreSQL's programs", () => {
  let server: SystemPostgres;
  let env: Record<string, string>;

  beforeAll(async () => {
    server = await startSystemPostgres(await commands("A base backup", "conf", "FOLDER"));
    await server.run('mkdir "$PGDATA/../wal"');
    env = { ADMIN_URL: server.urlOf("postgres"), DATABASE_URL: server.urlOf(database) };
  });

  beforeEach(async () => {
    await server.run(`dropdb --if-exists ${database} && createdb --encoding=UTF8 --template=template0 ${database}`, {
      PGHOST: server.folder,
      PGUSER: "postgres",
    });
  });

  afterAll(async () => await server[Symbol.asyncDispose]());

  /** Restores the dump in place of the database. */
  async function restoreDump(): Promise<void> {
    await server.run(`dropdb --maintenance-db="$ADMIN_URL" ${database}`, env);
    await server.run(await commands("A dump", "sh restore", server.folder), env);
  }

  it("a restored dump plays what it had, byte for byte, and nothing that came later; what was deleted comes back", async () => {
    await using before = await startService({ DATABASE_URL: server.urlOf(database) });
    const ann = await Uploads.by("Ann", before);
    const [long, deletedLater] = [await ann.add(30), await ann.add(1)];
    await server.run(await commands("A dump", "sh", server.folder), env);
    await ann.remove(deletedLater.id);
    const later = await ann.add(1);
    const bob = await Uploads.by("Bob", before);
    await before[Symbol.asyncDispose]();

    await restoreDump();
    await using after = await startService({ DATABASE_URL: server.urlOf(database) });
    await requirePlays(after, long);
    await requirePlays(after, deletedLater);
    expect(await statusOf(after, later.path)).toBe(404);
    expect([await isKnown(after, ann), await isKnown(after, bob)]).toEqual([true, false]);
    // All that the tables need is in the dump: what stores, counts and deletes works.
    const carl = await Uploads.by("Carl", after);
    const { id, path } = await carl.add(1);
    await carl.remove(id);
    expect(await statusOf(after, path)).toBe(404);
    expect((await fetch(`${after.url}/readyz`)).status).toBe(200);
  });

  it("with S3, what was deleted within the delay plays again, and reconcile finds what has no other half", async () => {
    const keys = { accessKey: "musickey", secretKey: "musicsecret" };
    await using s3 = await startStrictS3(keys, ["music"]);
    const settings = {
      DATABASE_URL: server.urlOf(database),
      STORE: "s3",
      S3_ENDPOINT: s3.url,
      S3_BUCKET: "music",
      S3_ACCESS_KEY: keys.accessKey,
      S3_SECRET_KEY: keys.secretKey,
    };
    // `npm run` would build, while other tests run what is built.
    const npm = `npm() { shift 3; "${process.execPath}" dist/src/store-command.js "$@"; }\n`;
    const reconcile = async (kind: "sh restore" | "sh cleanup"): Promise<string> =>
      await server.run(npm + (await commands("Recordings in S3", kind, server.folder)), settings);

    await using before = await startService(settings);
    const ann = await Uploads.by("Ann", before);
    const [kept, deletedLater, lost] = [await ann.add(2), await ann.add(1), await ann.add(1)];
    await server.run(await commands("A dump", "sh", server.folder), env);
    await ann.remove(deletedLater.id);
    const later = await ann.add(1);
    await before[Symbol.asyncDispose]();
    await restoreDump();

    expect(await reconcile("sh restore")).toContain(`orphan: ${later.id}`);
    expect(await reconcile("sh cleanup")).toMatch(/Deleted objects: 0$/m);
    s3.hoursOlder = 25;
    expect(await reconcile("sh cleanup")).toMatch(/Deleted objects: 1$/m);
    const aws = new S3({
      endpoint: s3.url,
      region: "us-east-1",
      credentials: { accessKeyId: keys.accessKey, secretAccessKey: keys.secretKey },
      forcePathStyle: true,
    });
    await aws.deleteObject({ Bucket: "music", Key: `mp3/${lost.id.slice(0, 2)}/${lost.id}` });
    aws.destroy();
    await expect(reconcile("sh restore")).rejects.toMatchObject({
      code: 1,
      stdout: expect.stringMatching(new RegExp(`^Objects: 2 .*\\nWithout a recording: 0 [^]*missing: ${lost.id}`)),
    });

    await using after = await startService(settings);
    await requirePlays(after, kept);
    await requirePlays(after, deletedLater);
    expect(await statusOf(after, later.path)).toBe(404);
  });

  it("a base backup and the log bring back the moment that was asked for", async () => {
    const query = async (sql: string) => (await server.run(`psql -Atc "${sql}" "$ADMIN_URL"`, env)).trim();
    await using before = await startService({ DATABASE_URL: server.urlOf(database) });
    const ann = await Uploads.by("Ann", before);
    const inBase = await ann.add(1);
    await server.run(await commands("A base backup", "sh", server.folder), env);
    const inLog = await ann.add(2);
    const UNTIL = await query("select clock_timestamp()");
    const later = await ann.add(1);
    await before[Symbol.asyncDispose]();
    const segment = await query("select pg_walfile_name(pg_switch_wal())");
    await server.run(`until [ -e "${server.folder}/wal/${segment}" ]; do sleep 0.1; done`);
    await server.stop("immediate");

    await server.run(await commands("A base backup", "sh restore", server.folder), { ...env, UNTIL });
    await server.run(`until [ "$(psql -Atc 'select pg_is_in_recovery()' "$ADMIN_URL")" = f ]; do sleep 0.1; done`, env);
    await using after = await startService({ DATABASE_URL: server.urlOf(database) });
    await requirePlays(after, inBase);
    await requirePlays(after, inLog);
    expect(await statusOf(after, later.path)).toBe(404);
  });
});
