import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { createHash } from "node:crypto";
import { Client } from "pg";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { uploadRequest } from "./support/half-upload.ts";
import { decodeWithMpg123 } from "./support/mp3-decoders.ts";
import { connectRaw } from "./support/raw-http.ts";
import { startService, type TestService } from "./support/service.ts";
import { infoChunk, seededRandom, sineWav, wavFile } from "./support/wav-maker.ts";

const everyField = `
  id url streamUrl mp3Url waveformUrl title fileName createdAt owner { id name }
  durationSeconds sizeBytes bitrateKbps sampleRateHz channels
  source { codec bitsPerSample sampleRateHz channels sizeBytes sha256 } sourceSha256
  tags { name value } loudness { integratedLufs samplePeakDbfs } warnings peaks(count: 4)`;

describe("uploadRecord", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;

  beforeAll(async () => {
    service = await startService();
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  async function query<T extends object>(statement: string): Promise<T[]> {
    const database = new Client({ connectionString: service.databaseUrl });
    await database.connect();
    try {
      return (await database.query<T>(statement)).rows;
    } finally {
      await database.end();
    }
  }

  it("answers with a link that plays exactly the recording", async () => {
    const wav = sineWav({ seconds: 1.5, amplitude: 0.5, channels: 2 });
    const { status, data } = await client.uploadRecord(ann, wav, { fileName: "Take 3.wav", fields: everyField });
    expect(status).toBe(200);
    expect(data.uploadRecord.created).toBe(true);
    const { record } = data.uploadRecord;
    expect(record).toMatchObject({
      id: expect.stringMatching(/^[\da-f]{8}-[\da-f]{4}-7[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/),
      url: `${service.url}/record?id=${record.id}&user=${ann.id}`.replace("localhost", new URL(client.url).hostname),
      title: "Take 3",
      fileName: "Take 3.wav",
      owner: { id: ann.id, name: "Ann" },
      durationSeconds: 1.5,
      bitrateKbps: 192,
      sampleRateHz: 44_100,
      channels: 2,
      source: { codec: "pcm", bitsPerSample: 16, sampleRateHz: 44_100, channels: 2, sizeBytes: wav.length },
      sourceSha256: createHash("sha256").update(wav).digest("hex"),
      tags: [],
      warnings: [],
    });
    expect(record.loudness.samplePeakDbfs).toBeCloseTo(-6.02, 1);
    expect(record.peaks).toHaveLength(4);
    for (const peak of record.peaks) expect(peak).toBeCloseTo(0.5, 1);

    const response = await fetch(record.url);
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("audio/mpeg");
    expect(response.headers.get("content-length")).toBe(String(record.sizeBytes));
    expect(response.headers.get("content-disposition")).toBe('attachment; filename="Take 3.mp3"');
    const mp3 = Buffer.from(await response.arrayBuffer());
    expect(mp3.length).toBe(record.sizeBytes);
    expect((await decodeWithMpg123(mp3, 2)).length / 2).toBe(1.5 * 44_100);

    const waveform = (await (await fetch(record.waveformUrl)).json()) as {
      version: number;
      data: number[];
      length: number;
    };
    expect(waveform).toMatchObject({ version: 2, channels: 1, sample_rate: 44_100, bits: 8 });
    expect(waveform.data).toHaveLength(2 * waveform.length);
  });

  it("takes the user's id and token as arguments, which win over the header", async () => {
    const bob = await client.createUser("Bob");
    const { status, data } = await client.uploadRecord(ann, sineWav({ seconds: 0.2 }), {
      fields: "owner { id }",
      declarations: ", $userId: ID, $token: UUID",
      args: ", userId: $userId, token: $token",
      variables: { userId: bob.id, token: bob.token },
    });
    expect(status).toBe(200);
    expect(data.uploadRecord.record.owner.id).toBe(bob.id);
  });

  it.each([
    ["somebody else's token", { userId: "ann", token: "bob" }, 401, "UNAUTHENTICATED"],
    ["an unknown user", { userId: "987654", token: "bob" }, 401, "UNAUTHENTICATED"],
    ["an id that is no number", { userId: "zero", token: "bob" }, 401, "UNAUTHENTICATED"],
    ["only an id", { userId: "ann", token: null }, 400, "BAD_USER_INPUT"],
    ["only a token", { userId: null, token: "bob" }, 400, "BAD_USER_INPUT"],
    ["a token that is no UUID", { userId: "ann", token: "nonsense" }, 401, "UNAUTHENTICATED"],
  ])("refuses %s in the arguments", async (_what, given, status, code) => {
    const bob = await client.createUser("Bob");
    const userId = given.userId === "ann" ? ann.id : given.userId;
    const token = given.token === "bob" ? bob.token : given.token;
    const answer = await client.uploadRecord(undefined, sineWav({ seconds: 0.2 }), {
      declarations: ", $userId: ID, $token: UUID",
      args: ", userId: $userId, token: $token",
      variables: { userId, token },
    });
    expect(answer.status).toBe(status);
    expect(answer.data ?? null).toBeNull();
    expect(answer.errors![0]!.extensions.code).toBe(code);
  });

  it("refuses an upload without credentials", async () => {
    const { status, errors } = await client.uploadRecord(undefined, sineWav({ seconds: 0.2 }));
    expect(status).toBe(401);
    expect(errors![0]!.extensions.code).toBe("UNAUTHENTICATED");
  });

  it("uses the title of the argument, else of the WAV's tags, else of the file name", async () => {
    const sound = sineWav({ seconds: 0.2, channels: 1 });
    const tagged = wavFile({
      format: { channels: 1 },
      data: sound.subarray(44),
      after: [infoChunk({ INAM: "Lied für Ann", IART: "Bob" })],
    });
    const fields = "title tags { name value }";
    const given = await client.uploadRecord(ann, tagged, {
      fields,
      declarations: ", $title: String",
      args: ", title: $title",
      variables: { title: " Given 👩‍👧 می‌خواهم " },
    });
    expect(given.data.uploadRecord.record.title).toBe("Given 👩‍👧 می‌خواهم");
    const fromTags = await client.uploadRecord(ann, tagged, { fields });
    expect(fromTags.data.uploadRecord.record).toEqual({
      title: "Lied für Ann",
      tags: [
        { name: "title", value: "Lied für Ann" },
        { name: "artist", value: "Bob" },
      ],
    });
    const fromName = await client.uploadRecord(ann, sound, { fileName: "Ünï 王.v2.wav", fields: "title fileName" });
    expect(fromName.data.uploadRecord.record).toEqual({ title: "Ünï 王.v2", fileName: "Ünï 王.v2.wav" });
  });

  it.each([
    ["a NUL", "a\0b", /^a ?b$/],
    ["a lone surrogate", "b\ud800c", /^b\ufffd?c$/],
    ["two lines", "one\r\ntwo", /^one two$/],
    ["characters that turn the direction of text", "two \u202ethree", /^two three$/],
    ["60 thousand characters", "x".repeat(60_000), /^x{1000}$/],
    ["nothing to see", " \u200d\n ", /^take$/],
  ])("makes a title of %s fit to be shown", async (_what, title, wanted) => {
    const { data } = await client.uploadRecord(ann, sineWav({ seconds: 0.1 }), {
      fields: "title",
      declarations: ", $title: String",
      args: ", title: $title",
      variables: { title },
    });
    expect(data.uploadRecord.record.title).toMatch(wanted);
  });

  it("keeps what can be kept of a strange file name", async () => {
    const { data } = await client.uploadRecord(ann, sineWav({ seconds: 0.1 }), {
      fileName: `ab\u202e\ud800${"y".repeat(400)}.wav`,
      fields: "title fileName",
    });
    const { title, fileName } = data.uploadRecord.record;
    expect(fileName).toHaveLength(255);
    expect(title).toMatch(/^ab\ufffdy+$/);
    expect(fileName).toMatch(/^ab\ufffdy+$/);
  });

  it.each([
    ["LOW", 64, 96],
    ["STANDARD", 96, 192],
    ["HIGH", 160, 320],
  ])("encodes quality %s at %d kbit/s mono and %d kbit/s stereo", async (quality, mono, stereo) => {
    for (const [channels, kbps] of [
      [1, mono],
      [2, stereo],
    ] as const) {
      const { data } = await client.uploadRecord(ann, sineWav({ seconds: 0.3, channels }), {
        fields: "bitrateKbps channels",
        args: `, quality: ${quality}`,
      });
      expect(data.uploadRecord.record).toEqual({ bitrateKbps: kbps, channels });
    }
  });

  it("keeps two channels that are the same, with all of the sound in both", async () => {
    const data = Buffer.alloc(4 * 44_100);
    for (let frame = 0; frame < 44_100; frame++) {
      const value = Math.round(16_000 * Math.sin((2 * Math.PI * 500 * frame) / 44_100));
      for (const channel of [0, 2]) data.writeInt16LE(value, 4 * frame + channel);
    }
    const fields = "url channels source { channels } warnings";
    const answer = await client.uploadRecord(ann, wavFile({ data }), { fields });
    const { url, ...facts } = answer.data.uploadRecord.record;
    expect(facts).toEqual({ channels: 2, source: { channels: 2 }, warnings: [] });
    const samples = await decodeWithMpg123(Buffer.from(await (await fetch(url)).arrayBuffer()), 2);
    const [left, right] = [0, 1].map((channel) => samples.filter((_, at) => at % 2 === channel));
    expect(right).toEqual(left);
    expect(left).toHaveLength(44_100);
    expect(levelAt(left!, 500)).toBeCloseTo((16_000 / 32_768) * 0.97, 2);
  });

  it("mixes stereo to mono in quality SPEECH, and hears both channels", async () => {
    const args = ", quality: SPEECH";
    const fields = "url bitrateKbps channels durationSeconds warnings loudness { samplePeakDbfs } source { channels }";
    for (const [bits, isFloat] of [
      [16, false],
      [32, true],
    ] as const) {
      const wav = sineWav({ seconds: 2, channels: 2, bits, isFloat, amplitude: 0.5, frequencyHz: 500 });
      const { data } = await client.uploadRecord(ann, wav, { fields, args });
      const { url, loudness, ...facts } = data.uploadRecord.record;
      const source = { channels: 2 };
      expect(facts).toEqual({ bitrateKbps: 64, channels: 1, durationSeconds: 2, warnings: [], source });
      // The largest value of (sin x + sin 2x) / 4
      expect(loudness.samplePeakDbfs).toBeCloseTo(20 * Math.log10(0.44), 1);
      const samples = await decodeWithMpg123(Buffer.from(await (await fetch(url)).arrayBuffer()), 1);
      expect(samples).toHaveLength(2 * 44_100);
      for (const hz of [500, 1000]) expect(levelAt(samples, hz)).toBeCloseTo(0.25 * 0.95, 2);
    }
    const clipped = Buffer.alloc(40_000);
    for (let at = 0; at < clipped.length; at += 4) clipped.writeInt16LE(at % 400 < 200 ? 32_767 : -32_768, at);
    const left = await client.uploadRecord(ann, wavFile({ data: clipped }), { fields: "warnings", args });
    expect(left.data.uploadRecord.record.warnings).toEqual(["CLIPPED"]);
    const surround = sineWav({ seconds: 0.3, channels: 6 });
    const { data } = await client.uploadRecord(ann, surround, { fields: "channels warnings", args });
    expect(data.uploadRecord.record).toEqual({ channels: 1, warnings: ["MIXED_DOWN"] });
  });

  it("reports warnings about an upload", async () => {
    const cut = sineWav({ seconds: 1, channels: 1 }).subarray(0, 40_044);
    const first = await client.uploadRecord(ann, cut, { fields: "durationSeconds warnings" });
    expect(first.data.uploadRecord.record).toEqual({ durationSeconds: 20_000 / 44_100, warnings: ["CUT_SHORT"] });
    const silent = wavFile({ format: { channels: 1, sampleRateHz: 96_000 }, data: Buffer.alloc(96_000) });
    const second = await client.uploadRecord(ann, silent, { fields: "warnings loudness { integratedLufs }" });
    expect(second.data.uploadRecord.record).toEqual({ warnings: ["SILENT", "RESAMPLED"], loudness: null });
  });

  it("makes one recording of consecutive WAVs", async () => {
    const slices = Array.from({ length: 10 }, (_, i) =>
      sineWav({ seconds: 1, frequencyHz: 300 + 50 * i, channels: 1, sampleRateHz: 16_000 }),
    );
    const fields = "durationSeconds warnings source { leftOutBytes }";
    const same = await client.uploadRecord(ann, Buffer.concat(slices), { fields });
    expect(same.data.uploadRecord.record).toEqual({
      durationSeconds: 10,
      warnings: [],
      source: { leftOutBytes: 0 },
    });
    const other = Buffer.concat([slices[0]!, sineWav({ seconds: 1, channels: 2 }), slices[1]!]);
    const mixed = await client.uploadRecord(ann, other, { fields });
    expect(mixed.data.uploadRecord.record).toEqual({
      durationSeconds: 2,
      warnings: ["SOUND_LEFT_OUT"],
      source: { leftOutBytes: 4 * 44_100 },
    });
  });

  it("trusts the sizes in a header if the request can hold them", async () => {
    const second = sineWav({ seconds: 1, channels: 1, sampleRateHz: 16_000 }).subarray(44);
    const format = { channels: 1, sampleRateHz: 16_000 };
    for (const dataSize of [2_000_000_000, 0x7fff_ffff, 0xffff_ffff - 36, 0]) {
      const file = wavFile({ format, data: second, dataSize, size: dataSize + 36 });
      const { data } = await client.uploadRecord(ann, file, { fields: "durationSeconds warnings" });
      expect(data.uploadRecord.record).toEqual({ durationSeconds: 1, warnings: [] });
    }
  });

  it.each([
    ["a text", Buffer.from("This is not a WAV file at all."), 415, "UNSUPPORTED_MEDIA"],
    ["an MP3", Buffer.concat([Buffer.from([0xff, 0xfb, 0x90, 0x64]), Buffer.alloc(4000)]), 415, "UNSUPPORTED_MEDIA"],
    ["AC-3 that is labelled as PCM", ac3Bursts(), 415, "UNSUPPORTED_MEDIA"],
    ["an empty file", Buffer.alloc(0), 422, "UPLOAD_INCOMPLETE"],
    ["a WAV without sound", wavFile({}), 422, "UPLOAD_INCOMPLETE"],
    ["a header alone", sineWav({ seconds: 1 }).subarray(0, 30), 422, "UPLOAD_INCOMPLETE"],
    [
      "a WAV of an unknown codec",
      wavFile({ format: { tag: 0x55 }, data: Buffer.alloc(500) }),
      415,
      "UNSUPPORTED_MEDIA",
    ],
  ])("refuses %s and stores nothing", async (_what, file, status, code) => {
    const [before] = await query<{ count: string }>("select count(*) from audio_record");
    const answer = await client.uploadRecord(ann, file);
    expect(answer.errors![0]).toMatchObject({ extensions: { code }, path: ["uploadRecord"] });
    expect({ status: answer.status, data: answer.data }).toEqual({ status, data: null });
    expect(await query("select count(*) from audio_record")).toEqual([before]);
  });

  it("stores a longer recording in chunks of 1 MiB after a head", async () => {
    const { data } = await client.uploadRecord(ann, sineWav({ seconds: 190, channels: 1, sampleRateHz: 22_050 }), {
      fields: "id url sizeBytes",
    });
    const { id, url, sizeBytes } = data.uploadRecord.record;
    const chunks = await query<{ position: number; bytes: number }>(
      `select position, length(bytes) as bytes from mp3_chunk where record_id = '${id}' order by position`,
    );
    expect(chunks.map(({ position }) => position)).toEqual([0, 1, 2, 3]);
    expect(chunks.slice(1, -1).every(({ bytes }) => bytes === 1024 * 1024)).toBe(true);
    expect(chunks.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(sizeBytes);
    const mp3 = Buffer.from(await (await fetch(url)).arrayBuffer());
    expect(mp3.length).toBe(sizeBytes);
    expect(await decodeWithMpg123(mp3, 1)).toHaveLength(190 * 22_050);
  });

  it("shows a recording only to its owner", async () => {
    const { data } = await client.uploadRecord(ann, sineWav({ seconds: 0.2 }));
    const { id } = data.uploadRecord.record;
    const read = `{ record(id: "${id}") { id } node(id: "${id}") { __typename id } }`;
    expect((await client.run(read, {}, ann)).data).toEqual({ record: { id }, node: { __typename: "Recording", id } });
    const bob = await client.createUser("Bob");
    expect((await client.run(read, {}, bob)).data).toEqual({ record: null, node: null });
    expect((await client.run('{ record(id: "nonsense") { id } }', {}, ann)).data).toEqual({ record: null });
    expect((await client.run(read)).errors!.map(({ extensions }) => extensions.code)).toEqual([
      "UNAUTHENTICATED",
      "UNAUTHENTICATED",
    ]);
  });

  it("refuses more bytes or seconds than allowed, with the number", async () => {
    await using strict = await startService({ MAX_UPLOAD_BYTES: "200000", MAX_DURATION_SECONDS: "2" });
    const strictClient = new ApiClient(strict.url);
    const bob = await strictClient.createUser("Bob");
    const large = await strictClient.uploadRecord(bob, sineWav({ seconds: 1.5, channels: 2 }));
    expect(large.status).toBe(413);
    expect(large.errors![0]!.extensions).toMatchObject({ code: "UPLOAD_TOO_LARGE", maxBytes: 200_000 });
    const long = await strictClient.uploadRecord(bob, sineWav({ seconds: 3, channels: 1, sampleRateHz: 8000 }));
    expect(long.status).toBe(413);
    expect(long.errors![0]!.extensions).toMatchObject({ code: "UPLOAD_TOO_LONG", maxSeconds: 2 });
    const good = await strictClient.uploadRecord(bob, sineWav({ seconds: 2, channels: 1, sampleRateHz: 8000 }));
    expect(good.status).toBe(200);
  });

  it("refuses a recording by its announced length, if the request is as large as announced", async () => {
    await using strict = await startService({ MAX_DURATION_SECONDS: "2" });
    const bob = await new ApiClient(strict.url).createUser("Bob");
    const { bytes, fileStart } = uploadRequest(bob, sineWav({ seconds: 3, channels: 1, sampleRateHz: 8000 }));
    using connection = await connectRaw(Number(new URL(strict.url).port));
    await connection.send(bytes.subarray(0, fileStart + 100));
    expect((await connection.answer())!.status).toBe(413);
  });
});

/** Coded sound in bursts for a receiver (IEC 61937), with the header of a WAV. */
function ac3Bursts(): Buffer {
  const random = seededRandom(1);
  const burst = (): Buffer => {
    const bytes = Buffer.alloc(6144);
    bytes.write("72f81f4e01000038", "hex");
    for (let at = 8; at < 1800; at++) bytes[at] = random() * 256;
    return bytes;
  };
  return wavFile({ format: { sampleRateHz: 48_000 }, data: Buffer.concat(Array.from({ length: 30 }, burst)) });
}

/** The amplitude of a sine of this frequency in sound of 44.1 kHz. */
function levelAt(samples: Float32Array, hz: number): number {
  let real = 0;
  let imaginary = 0;
  for (const [i, sample] of samples.entries()) {
    real += sample * Math.cos((2 * Math.PI * hz * i) / 44_100);
    imaginary += sample * Math.sin((2 * Math.PI * hz * i) / 44_100);
  }
  return (2 * Math.hypot(real, imaginary)) / samples.length;
}
