import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { ApiClient } from "./support/api-client.ts";
import { startService, type TestService } from "./support/service.ts";
import { sineWav } from "./support/wav-maker.ts";

describe("a link that was changed on its way", () => {
  let service: TestService;
  let shared: string;
  let recordId: string;
  let userId: string;

  beforeAll(async () => {
    service = await startService({ NODE_ENV: "production" });
    const client = new ApiClient(service.url);
    const ann = await client.createUser();
    userId = ann.id;
    const { data } = await client.uploadRecord(ann, sineWav({ seconds: 0.5 }));
    recordId = data.uploadRecord.record.id;
    const link = await client.run(`mutation { createLink(recordId: "${recordId}") { link { url } } }`, {}, ann);
    shared = new URL(link.data.createLink.link.url).pathname;
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  const open = async (path: string) => {
    const { status, headers, url } = await fetch(`${service.url}${path}`);
    return { status, type: headers.get("content-type"), path: new URL(url).pathname };
  };

  it.each([
    ["its route in capitals", () => shared.replace("/l/", "/L/")],
    ["the same with a name", () => `${shared.replace("/l/", "/L/")}/take.mp3?inline=1`],
    ["a plain link's route in capitals", () => `/RECORD/${recordId}/take.mp3?user=${userId}`],
    ["a percent sign at its end", () => `${shared}%`],
    ["half an escape at its end", () => `${shared}/take.mp3%2`],
  ])("plays with %s", async (_what, path) => {
    expect(await open(path())).toMatchObject({ status: 200, type: "audio/mpeg" });
  });

  it("is not understood with a bad escape in its middle", async () => {
    expect(await open(`${shared}%zz/take.mp3`)).toMatchObject({ status: 400 });
    expect(await open("/%")).toMatchObject({ status: 400 });
  });

  it.each([".", ",", ")", "%E3%80%82"])("gives the waveform with %s behind it", async (junk) => {
    const waveform = { status: 200, type: expect.stringContaining("application/json") };
    expect(await open(`${shared}/waveform.json${junk}`)).toMatchObject(waveform);
    expect(await open(`/record/${recordId}/waveform.json${junk}?user=${userId}`)).toMatchObject(waveform);
  });
});
