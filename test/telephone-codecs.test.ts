import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { openWav } from "../src/audio/wav/wav-reader.ts";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { ffmpeg } from "./support/ffmpeg.ts";
import { decodeWithMpg123 } from "./support/mp3-decoders.ts";
import { startService, type TestService } from "./support/service.ts";
import { chunk, inPieces, seededRandom, wavFile, type FormatOptions } from "./support/wav-maker.ts";

/** Headers as the programs that write these codecs make them. */
const headers = {
  gsm: {
    tag: 0x31,
    channels: 1,
    sampleRateHz: 8000,
    bits: 0,
    blockAlign: 65,
    bytesPerSecond: 1625,
    extra: words(2, 320),
  },
  "g726 of 16 kbit/s": { tag: 0x45, channels: 1, sampleRateHz: 8000, bits: 2, blockAlign: 1, bytesPerSecond: 2000 },
  "g726 of 24 kbit/s": { tag: 0x64, channels: 1, sampleRateHz: 8000, bits: 3, blockAlign: 3, bytesPerSecond: 3000 },
  "g726 of 32 kbit/s": { tag: 0x40, channels: 1, sampleRateHz: 8000, bits: 4, blockAlign: 1, bytesPerSecond: 4000 },
  "g726 of 40 kbit/s": { tag: 0x45, channels: 1, sampleRateHz: 8000, bits: 5, blockAlign: 5, bytesPerSecond: 5000 },
  g722: { tag: 0x28f, channels: 1, sampleRateHz: 16_000, bits: 4, blockAlign: 1, bytesPerSecond: 8000 },
  "oki-adpcm": { tag: 0x10, channels: 1, sampleRateHz: 8000, bits: 4, blockAlign: 1, bytesPerSecond: 4000 },
  "oki-adpcm by Dialogic": { tag: 0x17, channels: 1, sampleRateHz: 6000, bits: 4, blockAlign: 1, bytesPerSecond: 3000 },
  "yamaha-adpcm": { tag: 0x20, channels: 1, sampleRateHz: 22_050, bits: 4, blockAlign: 1, bytesPerSecond: 11_025 },
  "yamaha-adpcm of 2 channels": {
    tag: 0x20,
    channels: 2,
    sampleRateHz: 44_100,
    bits: 4,
    blockAlign: 1,
    bytesPerSecond: 44_100,
  },
} satisfies Record<string, FormatOptions>;

const names = Object.keys(headers) as (keyof typeof headers)[];

describe("telephone codecs", () => {
  it("decodes GSM 6.10 as libgsm does, any bits and speech", async () => {
    expect(sha256(await decode(wavFile({ format: headers.gsm, data: randomBytes(200 * 65, 610) })))).toBe(
      "77268848b067c37b7d50e603cc26cfb887a3d4d92dc7238ff76a4d9d9bad78ed",
    );
    expect(sha256(await decode(wavFile({ format: headers.gsm, data: Buffer.from(gsmSpeech, "base64") })))).toBe(
      "a0685f6f6dbfcd4fb5ebada91b943f89ba131435e6b54315ad0e875edfed2eb1",
    );
  });

  it.each([
    ["g726 of 24 kbit/s", 0x64, "cb1a5f3273c11766558535bb15e34212faaf1505084771f1a79b320bebc06e24"],
    ["g726 of 24 kbit/s", 0x14, "cb1a5f3273c11766558535bb15e34212faaf1505084771f1a79b320bebc06e24"],
    ["g726 of 32 kbit/s", 0x40, "79771c4833c2954083be0b20d785b6fbfc9f90f8ba2275cb694217c21c1abb67"],
    ["g726 of 40 kbit/s", 0x14, "f6c3cd81f79431bf2a054babc277b0badd6866be4f56d7af37c5ba662ab2e451"],
    ["g726 of 40 kbit/s", 0x45, "f6c3cd81f79431bf2a054babc277b0badd6866be4f56d7af37c5ba662ab2e451"],
    ["g726 of 32 kbit/s", 0x45, "79771c4833c2954083be0b20d785b6fbfc9f90f8ba2275cb694217c21c1abb67"],
  ] as const)("decodes %s with format tag %i as the CCITT's program does", async (name, tag, hash) => {
    const data = Buffer.from(g726Speech[name], "base64");
    expect(sha256(await decode(wavFile({ format: { ...headers[name], tag }, data })))).toBe(hash);
  });

  it.each(["g722", "oki-adpcm", "yamaha-adpcm", "yamaha-adpcm of 2 channels"] as const)(
    "decodes %s as ffmpeg does, any bits",
    async (name) => {
      const wav = wavFile({ format: headers[name], data: randomBytes(20_000, 7) });
      expect((await decode(wav)).equals(decodeWithFfmpeg(wav))).toBe(true);
    },
  );

  it.each([16, 24, 32, 40])("decodes G.726 of %i kbit/s as ffmpeg does, if ffmpeg wrote the file", async (kbps) => {
    const sound = "aevalsrc=0.3*sin(2*PI*(300+200*t)*t)+0.02*random(0):d=3:s=8000";
    const wav = runFfmpeg(["-f", "lavfi", "-i", sound, "-c:a", "g726", "-b:a", `${kbps}k`, "-f", "wav"]);
    const pcm = runFfmpeg(["-f", "lavfi", "-i", sound, "-f", "s16le"]);
    const ours = await decode(wav);
    expect(ours.equals(decodeWithFfmpeg(wav))).toBe(true);
    expect(errorDb(ours, pcm)).toBeLessThan(-20);
    // Where ffmpeg does not name itself, the recommendation's arithmetic is used.
    const unnamed = await decode(Buffer.from(wav.toString("latin1").replace("ISFT", "XXXX"), "latin1"));
    expect(unnamed).toHaveLength(ours.length);
    expect(errorDb(unnamed, ours)).toBeGreaterThan(kbps === 40 ? -5 : -40);
  });

  it.each(names)("gives the same samples of %s, whatever the size of the pieces", async (name) => {
    const wav = wavFile({
      format: headers[name],
      data: randomBytes(3900, 3),
      after: [chunk("note", Buffer.alloc(30))],
    });
    const whole = await decode(wav);
    expect(whole.length).toBeGreaterThan(7000);
    for (const pieceBytes of [1, 7, 64, 65, 1000]) expect((await decode(wav, pieceBytes)).equals(whole)).toBe(true);
  });

  it.each(names)("starts %s anew in each WAV of a file", async (name) => {
    const wav = wavFile({ format: headers[name], data: randomBytes(3900, 5) });
    const one = await decode(wav);
    expect((await decode(Buffer.concat([wav, wav]))).equals(Buffer.concat([one, one]))).toBe(true);
  });

  it("ends where the fact chunk says", async () => {
    const fact = Buffer.alloc(4);
    fact.writeUInt32LE(3 * 320 - 100);
    const before = [chunk("fact", fact)];
    expect(await decode(wavFile({ format: headers.gsm, before, data: randomBytes(195, 1) }))).toHaveLength(2 * 860);
  });

  it("leaves out half a block of GSM, and keeps every whole code of G.726", async () => {
    expect(await decode(wavFile({ format: headers.gsm, data: randomBytes(65 + 40, 1) }))).toHaveLength(2 * 320);
    expect(await decode(wavFile({ format: headers["g726 of 24 kbit/s"], data: randomBytes(5, 1) }))).toHaveLength(
      2 * 13,
    );
  });

  it.each([
    ["G.726 of 48 kbit/s", { ...headers["g726 of 32 kbit/s"], bits: 6 }, "G.726 of 6 bits"],
    ["stereo GSM", { ...headers.gsm, channels: 2 }, "GSM 6.10 of 2 channels"],
    ["OKI ADPCM of 6 channels", { ...headers["oki-adpcm"], channels: 6 }, "OKI ADPCM of 6 channels"],
  ])("refuses %s", async (_, format, words) => {
    const wav = wavFile({ format, data: randomBytes(1000, 1) });
    await expect(decode(wav)).rejects.toMatchObject({
      code: "UNSUPPORTED_MEDIA",
      message: expect.stringContaining(words),
    });
  });

  it("gives the event loop to others while it decodes a large piece", async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    // 160 s of GSM that arrive at once.
    await decode(wavFile({ format: headers.gsm, data: randomBytes(65 * 4000, 1) }));
    clearInterval(timer);
    expect(turns).toBeGreaterThan(10);
  });
});

describe("an upload of a telephone codec", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;

  beforeAll(async () => {
    service = await startService();
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
  });

  afterAll(async () => await service?.[Symbol.asyncDispose]());

  it.each(names)("is stored with its length and the name of the codec: %s", async (name) => {
    const format = headers[name];
    const data = name === "gsm" ? Buffer.from(gsmSpeech.repeat(10), "base64") : randomBytes(6000, 9);
    const wav = wavFile({ format, data });
    const fields = "url durationSeconds channels sampleRateHz source { codec bitsPerSample sampleRateHz channels }";
    const { data: answer } = await client.uploadRecord(ann, wav, { fields });
    const { url, durationSeconds, channels, sampleRateHz, source } = answer.uploadRecord.record;
    const frames = (await decode(wav)).length / 2 / format.channels;
    expect(durationSeconds).toBe(frames / format.sampleRateHz);
    expect(source).toEqual({
      codec: name.split(" ")[0],
      bitsPerSample: format.bits,
      sampleRateHz: format.sampleRateHz,
      channels: format.channels,
    });
    expect(channels).toBe(format.channels);
    const mp3 = Buffer.from(await (await fetch(url)).arrayBuffer());
    expect(await decodeWithMpg123(mp3, channels)).toHaveLength(Math.round(durationSeconds * sampleRateHz) * channels);
  });
});

/** The samples of a WAV of a codec that the reader decodes: 16 bits, little-endian. */
async function decode(bytes: Buffer, pieceBytes?: number): Promise<Buffer> {
  const wav = await openWav(inPieces(bytes, pieceBytes), { maxBytes: bytes.length });
  const pieces: Buffer[] = [];
  for await (const blocks of wav.blocks()) pieces.push(blocks);
  expect([...wav.remarks]).toEqual([]);
  return Buffer.concat(pieces);
}

function decodeWithFfmpeg(wav: Buffer): Buffer {
  return runFfmpeg(["-f", "wav", "-i", "pipe:0", "-f", "s16le"], wav);
}

function runFfmpeg(options: readonly string[], input: Buffer = Buffer.alloc(0)): Buffer {
  const fixed = ["-nostdin", "-hide_banner", "-loglevel", "fatal"];
  const { status, stdout } = spawnSync(ffmpeg.path, [...fixed, ...options, "pipe:1"], { input, maxBuffer: 2 ** 26 });
  expect(status).toBe(0);
  return stdout;
}

/** By how many dB the difference of two sounds of 16 bits is louder than the second one. */
function errorDb(ours: Buffer, theirs: Buffer): number {
  let error = 0;
  let energy = 0;
  for (let at = 0; at < theirs.length; at += 2) {
    error += (ours.readInt16LE(at) - theirs.readInt16LE(at)) ** 2;
    energy += theirs.readInt16LE(at) ** 2;
  }
  return 10 * Math.log10(error / energy);
}

function randomBytes(length: number, seed: number): Buffer {
  const random = seededRandom(seed);
  return Buffer.from(Uint8Array.from({ length }, () => random() * 256));
}

function words(...values: number[]): Buffer {
  return Buffer.from(Uint16Array.from(values).buffer);
}

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Six blocks of a voice, by SoX and libgsm. */
const gsmSpeech =
  "VlgvwuqUxwM5ciP3a2ncuHF87YwmCDlu3fjsgww7jr4xjZgVbV90II7cunEoDGpxJEWOcwpWiiMV1e58uHFcye8V6VHIiAKIGbSRI/ns" +
  "RBu5sqejnCMPuj3b3NRjE8fuK1ONXUVsTSuGbeW6UcwjSFrUrEdNHVC7m8lpzRVGda0GjuB524nekgPFmWtS7FxvI2maK6hCDtzMae7y" +
  "U1Ic9VMg9aFzYfkxsLB7k1hD0ELL0U+0rb3MuGosJzjJD1EzHsysHxpX4t9LUBs5LiyelPFfEnYjp3Rw5Ei1qb9Ub8jazBv5nXEl/kzt" +
  "OG7s9kPLxa7sSymKTMk4TqXYc0yFEDvzRrHeGVei73SKm6MXGzsmCzX2jWLntIekWswiSYZILfaNa8uiEuIoeExa+ntprnZO2G7dPr5z" +
  "KnS2eX/Z7UBKdTpmXatJY9Y0K8UqR3rlPkxE9Mq6JD9UQwxZFrWNEsThbKjt5Jr1YUmtSOyVFysXW1u6ce+ycrFAOl2f2dXOUraSrip+";

/** 0.12 s of a voice. The hashes are those of SoX's decoder for AU files, which is the CCITT's. */
const g726Speech = {
  "g726 of 24 kbit/s":
    "bbbbS+ttt22+9P3p3+PP55/+/Ov/xxJJ5RPJSRRRJ/+2uvux3++//3+5y3/OPOvKv3JNWP5555KXJJ52N9+v3x33/+/N5/53Py3x3/5/" +
    "/2UWKJfeSxWfrh+ON/3P3+PW6x535/O/+/2Nu933jpJPf6P6NdV5h3333Oy3JOPOX3P3O////+28/pypK5Z7KKUVUJv3p+2XxO6OXO//" +
    "P2//P/52/u2nppW7XTJfeONrv3v+Oy+KOXPxOv23//5PJPxM39pvvRya7ZeRUym+31JuXPXRpP222v/36P6J552/0qvvLNbJfXM6n2/0" +
    "J3ORNJ31/9+/O//O/KJ5Z2O/lJuPb/Zf86n2x96yVPP3mO+/JP//++2/SPSSM/31neRxb/87v1/W/xfO252155/5/P32//3SS/L5th3e" +
    "xKa+U7us/PP3XR2t3////P5/32/J917ZXv8JvuzRbz9d3n+635/f+u2KP+2PX+3/",
  "g726 of 32 kbit/s":
    "d3d3VkLcu6q7zd7u7CHPwdEcHx/y8h8e/j3O7+HhIiIRQx8iQ0NDMjL/7e28zs3v3/wt/S7fHfLE7h8tLh7PFb/eIiwvERHj8hEkTyIh" +
    "Eewc3d7P3uHv3x/tHiwRH/HvL8TRw98e8f//7EptFi9vfiPhTE+Wk+wrLOHt8d4vHl7U4fPu8u4u7x3/6xzN+8Het9IiPmPlMfQ6WVrz" +
    "ocG+/909xPESPCE9P98v7/3xHh7e+73o8c/T0xTxcfTxEktLWRKv0aHu7SHDLvQ9Py0R/h/u/x/x8fLs/Zzej+HPT/RuNx8fTS86ta3B" +
    "vO0swy0UPU8x0S6+7c7h/xMvJC/SKr/JobG+UdRy9jFMQjnFrd3d2jG9QS8/Q7Ihzd39zv/vEy/0UfIv+fLY0s/fFTpn8S5PKRSfzdHZ" +
    "I8EtQxwS4cvf/c7hH+7xH+9DQhVh3jwsjvHPLnLvQT8ZFJ+90vrz9EwRTu2e/t7fIh8fH+3tzf9F8VY0GfPBupJsQcRxHvwWrtvjHOHT" +
    "fh7uH+7c8vIf4iEu3d3+/MFVNOFUIbjD30ryNWP8Whaf2uIfH99tQs3b/9H/7/ER8R797P5B+uz3QTKh6zKSvNZhc9Xsa8+8/vTR0+Nf" +
    "7Jv8QxLc3hNB7c3y",
  "g726 of 40 kbit/s":
    "////////////////////////////////////////////////////////////////////////////3/RblTHipQgpjfLwnQ73iuq8xnP9lGZZ" +
    "WoUY5zFF/fdZznF8ZtzehiGMvBC+MYwl6P3+d/kWRF50mzfuLpPHwj4i5F8xK0X0vL3COxNmQjmUlSYP0o+XPectnGf41sWf7+EhDc4rhOD/" +
    "7/ej/r4dfH/Y/h74PiGHcpR8/kZu5FbH7/0fJhGOZBlkUIxAj2HH8V5u/cc/n/i++MRek+fXzaHv4f88H//4GTh/3IbRS0EjojZwTmiZwbdz" +
    "7GYpSIEs5EBN8fcBznF/Zznf8C+E2yaT4nOl2QRNCuTpcFFsXw4T8l98MXpjFrX6sork3S5/gx/oKkZRJP8/P89fOs+vvPub38Ig/R4JOF/k" +
    "Q8eKTnTk+IZf6H/Of5vsWrGOPhWHsZXqF/fs0EtlhqqMI2Dm9BPqi8HItHLVCNcKLYsE/bxf5IMIRFL/xB8Dv2uZ0HuPEL4SF/ws1sKr61lb" +
    "oV2ds4gXTHtRt8/1/RMLxlQ//Jr38pxbhP/NzvCpP/XfEIPeccH/Ww++VCf4YbGVW3iqsU8/t3/MLiDZiy2v7/gV1cuv/+m7/9jav0vNFCUQ" +
    "jm6IYv8/zmt/5f5BfGhn8tNjCrczRWbdfrbdo/058xZbYd/z+6+ZV/nyhD+hc4Ebeu/MUhA7CMn/b5zv/7v4YxlKrQmmvtFCWyi9jNuV2m5O" +
    "VM8Np/fdf5tlgo+EJcj1lN9bHsgw/6NBv/7/pe9tvYci",
};
