import { describe, expect, it } from "@jest/globals";
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ApiClient } from "./support/api-client.ts";
import { needs } from "./support/needs.ts";
import { startService, type TestService } from "./support/service.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

const files = join(import.meta.dirname, "../../deploy/observability");

/** The metrics of a service as Prometheus gets them, by name with labels. */
async function scrape({ server }: TestService): Promise<ReadonlyMap<string, number>> {
  const answer = await fetch(server.metricsUrl!);
  expect(answer.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
  const lines = (await answer.text()).split("\n").filter((line) => line && !line.startsWith("#"));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.split(" ").at(-1))]));
}

describe("metrics", () => {
  it("count what was uploaded, downloaded, refused and asked", async () => {
    await using service = await startService({ METRICS_PORT: "0", ENCODERS: "2" });
    const client = new ApiClient(service.url);
    const ann = await client.createUser("Ann");
    const { data } = await client.uploadRecord(ann, sineWav({ seconds: 3, channels: 2 }), { fields: "url sizeBytes" });
    const { url, sizeBytes } = data.uploadRecord.record;
    await client.uploadRecord(ann, Buffer.from("not a WAV at all, but some text that is long enough to tell"));
    expect((await (await fetch(url)).arrayBuffer()).byteLength).toBe(sizeBytes);
    const metrics = await until(
      async () => await scrape(service),
      (metrics) => metrics.get('web_user_music_downloads_total{outcome="complete"}') === 1,
    );
    const of = (name: string) => metrics.get(`web_user_music_${name}`);
    expect(of('uploads_total{outcome="stored"}')).toBe(1);
    expect(of('uploads_total{outcome="UNSUPPORTED_MEDIA"}')).toBe(1);
    expect(of('bytes_total{what="wav_received"}')).toBe(44 + 3 * 44_100 * 4);
    expect(of('bytes_total{what="mp3_stored"}')).toBe(sizeBytes);
    expect(of('bytes_total{what="mp3_sent"}')).toBe(sizeBytes);
    expect(of("sound_seconds_total")).toBe(3);
    expect(of("upload_tail_seconds_count")).toBe(1);
    expect(of("upload_wait_seconds_count")).toBeGreaterThanOrEqual(1);
    expect(of("download_first_byte_seconds_count")).toBe(1);
    expect(of("database_seconds_count")).toBeGreaterThan(3);
    expect(of('http_request_seconds_count{route="/graphql",method="POST",status="200"}')).toBe(1);
    expect(of("encoder_places")).toBe(2);
    expect(of("stopping")).toBe(0);
    expect(of("lease_renewal_age_seconds")).toBeLessThan(60);
    expect(metrics.get("process_resident_memory_bytes")).toBeGreaterThan(1e6);
  });

  it("count resumable uploads like those in one request", async () => {
    await using service = await startService({ METRICS_PORT: "0" });
    const client = new ApiClient(service.url);
    const ann = await client.createUser("Ann");
    const send = async (file: Uint8Array, cut = file.length): Promise<number[]> => {
      const start =
        'mutation ($size: SafeInt!) { startUpload(fileName: "take.wav", sizeBytes: $size) { upload { url } } }';
      const { url } = (await client.run(start, { size: file.length }, ann)).data.startUpload.upload;
      const headers = { "tus-resumable": "1.0.0", "content-type": "application/offset+octet-stream" };
      const patch = async (from: number, to: number) =>
        await fetch(url, {
          method: "PATCH",
          headers: { ...headers, "upload-offset": String(from) },
          body: file.slice(from, to),
        });
      const answers = [
        ...(cut < file.length ? [await patch(0, cut)] : []),
        await patch(cut % file.length, file.length),
      ];
      return answers.map(({ status }) => status);
    };
    const wav = sineWav({ seconds: 3, channels: 2 });
    expect(await send(wav, 100_000)).toEqual([204, 200]);
    expect(await send(Buffer.alloc(2000, "no WAV at all"))).toEqual([415]);
    const metrics = await until(
      async () => await scrape(service),
      (metrics) => metrics.get('web_user_music_uploads_total{outcome="UNSUPPORTED_MEDIA"}') === 1,
    );
    const of = (name: string) => metrics.get(`web_user_music_${name}`);
    expect(of('uploads_total{outcome="stored"}')).toBe(1);
    expect(of('uploads_total{outcome="UNSUPPORTED_MEDIA"}')).toBe(1);
    expect(of('bytes_total{what="wav_received"}')).toBe(wav.length);
    expect(of("sound_seconds_total")).toBe(3);
    expect(of("upload_tail_seconds_count")).toBe(1);
    expect(of("upload_wait_seconds_count")).toBeGreaterThanOrEqual(2);
    expect([of('portions_total{status="204"}'), of('portions_total{status="200"}')]).toEqual([1, 1]);
    expect(of('portions_total{status="415"}')).toBe(1);
    // How long a portion takes is the matter of its client.
    expect([...metrics.keys()].filter((name) => name.includes('route="/uploads'))).toEqual([]);
  });

  it("have no addresses, ids or tokens in their labels", async () => {
    await using service = await startService({ METRICS_PORT: "0" });
    const client = new ApiClient(service.url);
    const ann = await client.createUser("Ann");
    await fetch(`${service.url}/record/${crypto.randomUUID()}?user=1`);
    await fetch(`${service.url}/l/${ann.token}`);
    await fetch(`${service.url}/somewhere/${ann.token}`);
    const text = await (await fetch(service.server.metricsUrl!)).text();
    expect(text).toContain('route="/l/:secret"');
    expect(text).toContain('route="none"');
    expect(text).not.toContain(ann.token);
  });

  it("are not on the service's own port, and on no port by default", async () => {
    await using service = await startService();
    expect(service.server.metricsUrl).toBeUndefined();
    expect((await fetch(`${service.url}/metrics`)).status).toBe(404);
  });

  it("are all that the dashboard and the alerts ask for", async () => {
    await using service = await startService({ METRICS_PORT: "0" });
    const text = await (await fetch(service.server.metricsUrl!)).text();
    const known = new Set([...text.matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name!));
    const asked = [
      await readFile(join(files, "rules.yml"), "utf8"),
      await readFile(join(files, "dashboard.json"), "utf8"),
      await readFile(join(files, "../k8s/components/keda/scaled-object.yaml"), "utf8"),
    ]
      .flatMap((file) => [...file.matchAll(/\b(?:web_user_music|nodejs|process)_\w+/g)])
      .map(([name]) => name.replace(/_(?:count|bucket|sum)$/, ""));
    expect(asked.length).toBeGreaterThan(20);
    expect([...new Set(asked)].filter((name) => !known.has(name))).toEqual([]);
  });

  it("are on the dashboard if an alert looks at them", async () => {
    const dashboard = await readFile(join(files, "dashboard.json"), "utf8");
    const alerts = await readFile(join(files, "rules.yml"), "utf8");
    const watched = new Set(alerts.match(/\bweb_user_music_\w+/g));
    expect(watched.size).toBeGreaterThan(5);
    expect([...watched].filter((name) => !dashboard.includes(name))).toEqual([]);
  });

  needs("promtool", () => {
    it("have alerts that go off when they should, and only then", () => {
      const output = execFileSync("promtool", ["test", "rules", "rules.test.yml"], { cwd: files, encoding: "utf8" });
      expect(output).toContain("SUCCESS");
    });

    it("have a dashboard whose every expression Prometheus can parse", async () => {
      const { panels } = JSON.parse(await readFile(join(files, "dashboard.json"), "utf8"));
      const expressions: string[] = panels.flatMap(({ targets }: { targets: { expr: string }[] }) =>
        targets.map(({ expr }) => expr.replaceAll("$__rate_interval", "5m")),
      );
      expect(expressions.length).toBeGreaterThan(15);
      const rules = expressions.map((expr, at) => ({ record: `panel:${at}`, expr }));
      const folder = await mkdtemp(join(tmpdir(), "rules-"));
      try {
        await writeFile(join(folder, "rules.yml"), JSON.stringify({ groups: [{ name: "dashboard", rules }] }));
        const output = execFileSync("promtool", ["check", "rules", join(folder, "rules.yml")], { encoding: "utf8" });
        expect(output).toContain(`${expressions.length} rules found`);
      } finally {
        await rm(folder, { recursive: true });
      }
    });
  });
});
