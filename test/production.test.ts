import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import { maxIxmlBytes, maxNameCharacters, maxNoteCharacters, readIxml } from "../src/audio/wav/ixml.ts";
import { timecodeOf } from "../src/audio/wav/timecode.ts";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { SentStatements } from "./support/sent-statements.ts";
import { startService, type TestService } from "./support/service.ts";
import { bextChunk, chunk, cueChunks, wavFile } from "./support/wav-maker.ts";

const production = `production {
  project scene take tape note recordedAt timeReferenceSamples timecode timecodeRate tracks { channel name }
}`;
const sound = { format: { channels: 2, sampleRateHz: 48_000 }, data: Buffer.alloc(4 * 4800, 1) };

/** The chunks before the sound in a file of a Sound Devices MixPre: tabs, a NOTE in SPEED, spaces behind the end. */
const mixPre = [
  bextChunk({
    description: "sSPEED=023.976-ND\r\nsTAKE=04\r\nsSCENE=32A\r\nsTRK1=Boom\r\n",
    originator: "SoundDev: MixPre-6 II",
    originationDate: "2026-11-23",
    originationTime: "10:32:15",
    timeReferenceSamples: 86_400 * 2002,
  }),
  chunk(
    "iXML",
    Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>
<BWFXML>
\t<IXML_VERSION>1.61</IXML_VERSION>
\t<PROJECT>Café &amp; Crème</PROJECT>
\t<SCENE>32A</SCENE>
\t<TAKE>4</TAKE>
\t<TAPE>26Y11M23</TAPE>
\t<CIRCLED>FALSE</CIRCLED>
\t<BEXT><BWF_DESCRIPTION>sNOTE=other</BWF_DESCRIPTION></BEXT>
\t<SPEED>
\t\t<NOTE>of the speed</NOTE>
\t\t<MASTER_SPEED>24000/1001</MASTER_SPEED>
\t\t<TIMECODE_RATE>24000/1001</TIMECODE_RATE>
\t\t<TIMECODE_FLAG>NDF</TIMECODE_FLAG>
\t\t<FILE_SAMPLE_RATE>48000</FILE_SAMPLE_RATE>
\t\t<TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI>0</TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI>
\t\t<TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO>172972800</TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO>
\t\t<TIMESTAMP_SAMPLE_RATE>48000</TIMESTAMP_SAMPLE_RATE>
\t</SPEED>
\t<NOTE>plane at the end</NOTE>
\t<TRACK_LIST>
\t\t<TRACK_COUNT>2</TRACK_COUNT>
\t\t<TRACK>
\t\t\t<CHANNEL_INDEX>1</CHANNEL_INDEX>
\t\t\t<INTERLEAVE_INDEX>1</INTERLEAVE_INDEX>
\t\t\t<NAME>Boom</NAME>
\t\t\t<FUNCTION></FUNCTION>
\t\t</TRACK>
\t\t<TRACK>
\t\t\t<CHANNEL_INDEX>2</CHANNEL_INDEX>
\t\t\t<INTERLEAVE_INDEX>2</INTERLEAVE_INDEX>
\t\t\t<NAME>Lav Zoë</NAME>
\t\t</TRACK>
\t</TRACK_LIST>
</BWFXML>${" ".repeat(3000)}`),
  ),
];

/** The same of a Zoom F8: one line, zeros behind it, and tracks 3 and 7 of the recorder in a file of two channels. */
const zoom = [
  bextChunk({
    description: "zSPEED=029.970-DF\r\nzTAKE=001\r\nzTRK3=Kick\r\n",
    originator: "ZOOM F8",
    originationDate: "2026:11:23",
    originationTime: "23:59:59",
    timeReferenceSamples: 28_799_971,
  }),
  chunk(
    "iXML",
    Buffer.from(
      '<?xml version="1.0" encoding="UTF-8"?><BWFXML><IXML_VERSION>1.5</IXML_VERSION><PROJECT>ZOOM</PROJECT>' +
        "<SCENE></SCENE><TAKE>001</TAKE><TAPE>261123</TAPE><NOTE></NOTE><SPEED><TIMECODE_FLAG>DF</TIMECODE_FLAG>" +
        "<TIMECODE_RATE>30000/1001</TIMECODE_RATE></SPEED><TRACK_LIST><TRACK_COUNT>2</TRACK_COUNT>" +
        "<TRACK><CHANNEL_INDEX>7</CHANNEL_INDEX><INTERLEAVE_INDEX>2</INTERLEAVE_INDEX><NAME>Tr7</NAME></TRACK>" +
        "<TRACK><CHANNEL_INDEX>3</CHANNEL_INDEX><INTERLEAVE_INDEX>1</INTERLEAVE_INDEX><NAME>Kick</NAME></TRACK>" +
        `</TRACK_LIST></BWFXML>${"\0".repeat(501)}`,
    ),
  ),
];

describe("the API", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;

  beforeAll(async () => {
    service = await startService();
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
  });

  afterAll(async () => await service[Symbol.asyncDispose]());

  async function upload(before: readonly Buffer[], after: readonly Buffer[] = []) {
    const { data, errors } = await client.uploadRecord(ann, wavFile({ ...sound, before, after }), {
      fields: `id url durationSeconds warnings chapters { title } ${production}`,
    });
    expect(errors).toBeUndefined();
    return data.uploadRecord.record;
  }

  it("tells scene, take, timecode and track names of a Sound Devices recorder", async () => {
    expect((await upload(mixPre)).production).toEqual({
      project: "Café & Crème",
      scene: "32A",
      take: "4",
      tape: "26Y11M23",
      note: "plane at the end",
      recordedAt: "2026-11-23T10:32:15",
      timeReferenceSamples: 172_972_800,
      timecode: "01:00:00:00",
      timecodeRate: "24000/1001",
      tracks: [
        { channel: 1, name: "Boom" },
        { channel: 2, name: "Lav Zoë" },
      ],
    });
  });

  it("tells them of a Zoom recorder, also behind the sound", async () => {
    for (const record of [await upload(zoom), await upload([], zoom)]) {
      expect(record.production).toEqual({
        project: "ZOOM",
        scene: null,
        take: "001",
        tape: "261123",
        note: null,
        recordedAt: "2026-11-23T23:59:59",
        timeReferenceSamples: 28_799_971,
        timecode: "00:10:00;00",
        timecodeRate: "30000/1001",
        tracks: [
          { channel: 1, name: "Kick" },
          { channel: 2, name: "Tr7" },
        ],
      });
    }
  });

  it("tells the date of a broadcast extension without iXML, and null without either", async () => {
    const record = await upload([bextChunk({ originationDate: "2026-02-29", originationTime: "10-00-00" })]);
    expect(record.production).toMatchObject({ recordedAt: null, timeReferenceSamples: 0, timecode: null, tracks: [] });
    const none = await upload([]);
    expect([none.production, none.chapters]).toEqual([null, []]);
  });

  it("reads no chapter and no production for a list that does not ask, and all of a page at once", async () => {
    await upload([...mixPre, ...cueChunks([{ number: 1, sample: 0, label: "Slate" }])]);
    using sent = new SentStatements(service.server.database.pool);
    const list = async (fields: string) =>
      (await client.run(`{ me { records(first: 3) { nodes { ${fields} } } } }`, {}, ann)).data.me.records.nodes;
    await list("title tags { name }");
    expect(sent.take().filter((text) => /"(chapters|production)"/.test(text))).toEqual([]);
    const [first] = await list(`chapters { title startSeconds } ${production}`);
    expect(sent.take().filter((text) => /"(chapters|production)"/.test(text))).toHaveLength(1);
    expect(first.chapters).toEqual([{ title: "Slate", startSeconds: 0 }]);
    expect(first.production.scene).toBe("32A");
  });

  it("tells the chapters to whoever has a link, and nothing of the production", async () => {
    const { url } = await upload([...mixPre, ...cueChunks([{ number: 1, sample: 0, label: "Slate" }])]);
    const { data } = await client.run(`query ($url: URL!) { shared(url: $url) { chapters { title } } }`, { url });
    expect(data.shared.chapters).toEqual([{ title: "Slate" }]);
    const { status } = await client.run(`query ($url: URL!) { shared(url: $url) { ${production} } }`, { url });
    expect(status).toBe(400);
  });

  it("converts a file whole, whatever its iXML is", async () => {
    for (const xml of ["<", "no XML", "<a>".repeat(200_000), `<BWFXML><SCENE>1</SCENE>${"&x;".repeat(100_000)}`]) {
      const record = await upload([chunk("iXML", Buffer.from(xml))]);
      expect([record.durationSeconds, record.warnings]).toEqual([0.1, []]);
    }
  });
});

describe("iXML", () => {
  const read = (xml: string | Buffer) => readIxml(Buffer.from(xml as string));
  const utf16 = (text: string) => Buffer.from(text, "utf16le");

  it.each([
    ["UTF-8 with a BOM", Buffer.from("\uFEFF<B><SCENE>Zoë 雨</SCENE></B>"), "Zoë 雨"],
    ["UTF-16 with a BOM", utf16('\uFEFF<?xml version="1.0" encoding="UTF-16"?><B><SCENE>Zoë 雨</SCENE></B>'), "Zoë 雨"],
    ["UTF-16 of the other order", utf16("<B><SCENE>Zoë 雨</SCENE></B>").swap16(), "Zoë 雨"],
    [
      "the encoding that it states",
      Buffer.from('<?xml version="1.0" encoding="koi8-r"?><B><SCENE>\xc4\xc1</SCENE></B>', "latin1"),
      "да",
    ],
    ["Windows-1252", Buffer.from("<B><SCENE>Zo\xeb</SCENE></B>", "latin1"), "Zoë"],
    ["an unknown encoding", Buffer.from('<?xml encoding="x-y"?><B><SCENE>Zo\xeb</SCENE></B>', "latin1"), "Zoë"],
    ["CDATA and references", Buffer.from("<B><SCENE><![CDATA[1 < 2]]> &amp; &#x96e8;</SCENE></B>"), "1 < 2 & 雨"],
    ["an ampersand that stands for itself", Buffer.from("<B><SCENE>1 & 2</SCENE></B>"), "1 & 2"],
    ["lines", Buffer.from("<B><SCENE>\n  one\n  two </SCENE></B>"), "one two"],
    ["junk before and behind it", Buffer.from("\x01junk<B><SCENE>1</SCENE></B>\0\0<B><SCENE>2"), "1"],
    ["an end that is cut off", Buffer.from("<B><SCENE>1</SCENE><NOTE>Zo\xc3", "latin1"), "1"],
    ["a root of another name", Buffer.from("<IXML a='1'><SCENE>1</SCENE></IXML>"), "1"],
  ])("is read from %s", (_, xml, scene) => {
    expect(readIxml(xml).scene).toBe(scene);
  });

  it("takes the first of several texts, and only those that stand at their place", () => {
    const xml = "<B><X><SCENE>x</SCENE></X><SCENE>1</SCENE><SCENE>2</SCENE><SPEED><NOTE>of SPEED</NOTE></SPEED></B>";
    expect(read(xml)).toMatchObject({ scene: "1", note: null });
  });

  it("resolves no entity of the file, and reads nothing behind a document type", () => {
    const laughs = Array.from({ length: 9 }, (_, i) => `<!ENTITY l${i + 1} "${`&l${i};`.repeat(10)}">`).join("");
    const type = `<!DOCTYPE B [<!ENTITY l0 "lol">${laughs}<!ENTITY f SYSTEM "file:///etc/passwd">]>`;
    const scene = "<B><SCENE>&l9;&f;</SCENE></B>";
    expect(read(type + scene).scene).toBeNull();
    expect(read(scene).scene).toBe("&l9;&f;");
  });

  it("has texts of limited length, without signs that are not shown", () => {
    const long = read(`<B><SCENE>${"雨".repeat(5000)}</SCENE><NOTE>${"é".repeat(5000)}</NOTE></B>`);
    expect(long.scene).toBe("雨".repeat(maxNameCharacters));
    expect(long.note).toBe("é".repeat(maxNoteCharacters));
    expect(read("<B><SCENE>a\u202eb\u0000</SCENE></B>").scene).toBeNull(); // cut off at the NUL
    expect(read("<B><SCENE>a\u202eb\u200b</SCENE></B>").scene).toBe("ab");
  });

  it("has at most one name for each of 64 channels", () => {
    const track = (index: string, name: string) =>
      `<TRACK><INTERLEAVE_INDEX>${index}</INTERLEAVE_INDEX><NAME>${name}</NAME></TRACK>`;
    const list = (...tracks: string[]) => read(`<B><TRACK_LIST>${tracks.join("")}</TRACK_LIST></B>`).tracks;
    const many = Array.from({ length: 300 }, (_, i) => track(`${i + 1}`, `Track ${i + 1}`));
    expect(list(...many, ...many)).toHaveLength(64);
    expect(list(track("2", "b"), track("1", "a"), track("2", "c"), track("-1", "d"), track("9999999999", "e"))).toEqual(
      [
        { channel: 1, name: "a" },
        { channel: 2, name: "b" },
      ],
    );
    expect(list(track("1", " "), track("x", "y"), track("", "z"))).toEqual([]);
  });

  it.each([
    ["deep", "<a>".repeat(maxIxmlBytes / 3)],
    ["of mistakes", "&".repeat(maxIxmlBytes)],
    ["of empty elements", "<a/>".repeat(maxIxmlBytes / 4)],
    ["of attributes", `<a ${Array.from({ length: 9000 }, (_, i) => `b${i}=""`).join(" ")}/>`],
    ["of one name", `<${"a".repeat(maxIxmlBytes)}`],
    ["of closing tags", "</a>".repeat(maxIxmlBytes / 4)],
    ["of tracks", "<TRACK_LIST><TRACK>".repeat(3000)],
  ])("that is %s is read up to there", (_, rest) => {
    expect(read(`<B><SCENE>1</SCENE>${rest}`).scene).toBe("1");
  });

  it("of a pulled-down file counts its samples at the rate of the time stamp", () => {
    const speed = (lo: number) =>
      `<SPEED><TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI>1</TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI>` +
      `<TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO>${lo}</TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO>` +
      `<TIMESTAMP_SAMPLE_RATE>48048</TIMESTAMP_SAMPLE_RATE></SPEED>`;
    expect(read(`<B>${speed(5)}</B>`)).toMatchObject({ timestampSamples: 2 ** 32 + 5, timestampRateHz: 48_048 });
  });
});

describe("a timecode", () => {
  const of = (samples: number, rate: string, isDropFrame = false, sampleRateHz = 48_000) =>
    timecodeOf({ samples, sampleRateHz, rate, isDropFrame });

  it.each([
    [1_820_903_040, "25/1", "10:32:15:12"],
    [1_820_903_040, "25000/1000", "10:32:15:12"],
    [1_820_903_040, "50/1", "10:32:15:24"],
    [86_400 * 2002, "24000/1001", "01:00:00:00"],
    [86_400 * 2002 - 1000, "24000/1001", "00:59:59:23"],
    [86_400 * 48_000, "30/1", "00:00:00:00"],
    [4799, "120/1", "00:00:00:12"],
  ])("of %i samples at %s is %s", (samples, rate, timecode) => {
    expect(of(samples, rate)).toBe(timecode);
  });

  it.each([
    [2_881_278, "00:00:59;29"],
    [2_882_880, "00:01:00;02"],
    [28_798_369, "00:09:59;29"],
    [28_799_971, "00:10:00;00"],
    [1_727_998_272, "10:00:00;00"],
  ])("of %i samples leaves out numbers if it is drop-frame: %s", (samples, timecode) => {
    expect(of(samples, "30000/1001", true)).toBe(timecode);
  });

  it("of 59.94 frames leaves out four numbers a minute, and one of 25 frames none", () => {
    expect(of(2_882_880, "60000/1001", true)).toBe("00:01:00;04");
    expect(of(2_880_000, "25/1", true)).toBe("00:01:00:00");
  });

  it("is none at a rate that no camera has", () => {
    expect([of(1, "1/900"), of(1, "999999/1")]).toEqual([undefined, undefined]);
  });
});
