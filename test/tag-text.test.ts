import { describe, expect, it } from "@jest/globals";
import iconv from "iconv-lite";
import { codePageOf, decodeBytes, decodeUnlabelled } from "../src/audio/wav/tag-text.ts";
import { seededRandom } from "./support/wav-maker.ts";

const latin1 = (text: string): Buffer => Buffer.from(text, "latin1");

describe("a text whose code page is stated", () => {
  it.each([
    [1250, "Zażółć gęślą jaźń; příliš žluťoučký kůň"],
    [1251, "Привет, мир"],
    [1251, "Её"],
    [1252, "Grüße – “naïve” œuvre €"],
    [1253, "Καλημέρα κόσμε"],
    [1254, "Şarkı söylüyor İğne"],
    [1255, "שלום עולם"],
    [1256, "مرحبا"],
    [1257, "Ąžuolas ėjo"],
    [1258, "Cà phê"],
    [874, "สวัสดี"],
    [932, "日本語の表題、ソﾃｱ"],
    [936, "中文标题 你好"],
    [949, "한국어 제목"],
    [950, "中文標題"],
    [54_936, "中文标题"],
    [51_932, "日本語"],
    [437, "Grüße é"],
    [850, "Grüße Ø"],
    [852, "Łódź"],
    [866, "Привет"],
    [20_866, "Привет"],
    [28_592, "Łódź"],
    [28_605, "œuvre €"],
    [10_000, "Café Grüße"],
    [10_007, "Привет"],
    [20_127, "plain"],
  ])("is read in %i: %s", (codePage, text) => {
    const name = { 54_936: "gb18030", 51_932: "eucjp", 10_000: "macintosh", 10_007: "maccyrillic", 20_127: "ascii" };
    const bytes = iconv.encode(text, name[codePage as keyof typeof name] ?? String(codePage));
    expect(decodeUnlabelled(bytes, { codePage })).toBe(text);
    expect(decodeUnlabelled(Buffer.concat([bytes, Buffer.from("\0rest")]), { codePage })).toBe(text);
  });

  it.each([65_001, 1251, 932, 1252, 0xffff])(
    "is read as UTF-8 where it is that, whatever is stated: %i",
    (codePage) => {
      expect(decodeUnlabelled(Buffer.from("Grüße, Привет, 日本"), { codePage })).toBe("Grüße, Привет, 日本");
    },
  );

  it("is UTF-16 by the number, too", () => {
    expect(decodeUnlabelled(Buffer.from("日本\0", "utf16le"), { codePage: 1200 })).toBe("日本");
    expect(decodeUnlabelled(Buffer.from("日本", "utf16le").swap16(), { codePage: 1201 })).toBe("日本");
  });

  it("is read even if the code page does not exist or does not fit", () => {
    expect(decodeUnlabelled(latin1("Gr\xfc\xdfe"), { codePage: 12_345 })).toBe("Grüße");
    expect(decodeUnlabelled(latin1("Gr\xfc\xdfe"), { codePage: 65_001 })).toBe("Grüße");
    expect(decodeUnlabelled(iconv.encode("Привет", "1251"), { codePage: 1252 })).toBeUndefined();
  });

  it.each([
    [{ codePage: 1251, language: 9, dialect: 1 }, 1251],
    [{ codePage: 0, language: 25, dialect: 1 }, 1251],
    [{ codePage: 0, language: 0x0419, dialect: 0 }, 1251],
    [{ codePage: 0, language: 17, dialect: 1 }, 932],
    [{ codePage: 0, language: 4, dialect: 1 }, 950],
    [{ codePage: 0, language: 4, dialect: 2 }, 936],
    [{ codePage: 0, language: 26, dialect: 2 }, 1251],
    [{ codePage: 0, language: 9, dialect: 1 }, undefined],
    [{ codePage: 0, language: 0, dialect: 0 }, undefined],
  ])("has the code page of %j", (characterSet, codePage) => {
    expect(codePageOf(characterSet)).toBe(codePage);
  });
});

describe("a text about which nothing is stated", () => {
  it.each([
    "Grüße aus Köln",
    "Été",
    "Où es-tu ?",
    "À la recherche du temps perdu",
    "L´été",
    "Öl",
    "öö",
    "Jäääär",
    "äöüß ÄÖÜ",
    "áéíóú",
    "Þú og þá",
    "Dvoø",
    "São João – Canção",
    "¿Qué pasó, señor?",
    "„Titel“ und ‚mehr‘",
    "Don’t stop… 100 €",
    "Møller, Ångström & Æsop",
    "Cœur naïf",
    "1º de Maio",
    "«Été indien»",
    "Beyoncé™",
    "Sigur Rós: Ágætis byrjun",
    "Señor × Niño",
    "X",
    "é",
  ])("is taken for Windows-1252 if it reads so: %s", (text) => {
    expect(decodeBytes(iconv.encode(text, "win1252"), {})).toBe(text);
  });

  it.each([
    [
      "Russian",
      "1251",
      ["Привет", "Ты", "Песня о тебе", "DJ Smash – Москва", "МОСКВА", "Ну, погоди!", "всё", "Ёлка 2"],
    ],
    ["Russian of DOS and Unix", "866", ["Привет", "Песня", "Москва (live)"]],
    ["Russian of KOI8", "koi8-r", ["Привет", "Песня", "Москва (live)"]],
    ["Ukrainian", "1251", ["Пісня про тебе", "Їжак"]],
    ["Greek", "1253", ["Καλημέρα", "Ένα τραγούδι", "Live στην Αθήνα"]],
    ["Polish", "1250", ["Zażółć gęślą jaźń", "Łódź", "Książę"]],
    ["Hebrew", "1255", ["שלום", "שיר 2"]],
    ["Arabic", "1256", ["مرحبا بك", "أغنية"]],
    ["Thai", "874", ["สวัสดี", "เพลง 1"]],
    ["Japanese", "932", ["日本語", "さくら", "テスト", "東京", "夏 2020", "桜 Live", "夜空", "君の名は。"]],
    ["Japanese of Unix", "eucjp", ["日本語", "さくら", "テスト"]],
    ["Chinese", "936", ["中文", "你好", "周杰伦 - Live", "第一首歌"]],
    ["traditional Chinese", "950", ["中文", "你好", "第一首歌"]],
    ["Korean", "949", ["한글", "아이유 - 좋은 날"]],
    ["German of DOS", "850", ["Mädchen", "Grüße"]],
    ["French of a Macintosh", "macintosh", ["Prélude", "Grüße"]],
  ])("is none if it is %s", (_, encoding, texts) => {
    for (const text of texts) expect([text, decodeBytes(iconv.encode(text, encoding), {})]).toEqual([text, undefined]);
  });

  it.each([
    "Ð¢ÐµÑ\u0081Ñ‚",
    "PrÃ©lude",
    "Ïðèâåò, ìèð",
    "a\ufffdb",
    "\ufffd\ufffd\ufffd",
    "bell\u0007",
    "\u001b[31mred",
    "\u0001\u0002",
    "next\u0085line",
  ])("is none if it is Unicode that nobody wrote: %j", (text) => {
    expect(decodeBytes(Buffer.from(text), {})).toBeUndefined();
    expect(decodeUnlabelled(Buffer.from(`\ufeff${text}`, "utf16le"), {})).toBeUndefined();
  });

  it.each(["Привет", "日本語", "Łódź", "àéîõü", "Þú þá", "Ã", "🎵", "Zażółć", "tab\there", "line\nline"])(
    "is Unicode if somebody wrote that: %j",
    (text) => {
      expect(decodeBytes(Buffer.from(text), {})).toBe(text);
      expect(decodeUnlabelled(Buffer.from(`\ufeff${text}`, "utf16le").swap16(), {})).toBe(text);
    },
  );

  it.each(["le", "be"] as const)("is UTF-16 without a BOM if it looks like it: %s", (order) => {
    for (const text of ["Title", "Grüße 你好 🎵", "Привет", "Ένα"]) {
      const bytes = Buffer.from(`${text}\0`, "utf16le");
      if (order === "be") bytes.swap16();
      expect(decodeUnlabelled(Buffer.concat([bytes, Buffer.from([0])]), {})).toBe(text);
    }
  });

  it("may end inside a character if it is truncated", () => {
    for (const text of ["é", "日", "🎵"]) {
      for (let cut = 1; cut < Buffer.byteLength(text); cut++) {
        const bytes = Buffer.from(`Title ${text}`).subarray(0, -cut);
        expect(decodeBytes(bytes, { isCut: true })).toBe("Title ");
      }
    }
    expect(decodeBytes(iconv.encode("日本", "932").subarray(0, 3), { codePage: 932, isCut: true })).toBe("日");
  });

  it("is hardly ever found in random bytes", () => {
    const random = seededRandom(11);
    const texts = Array.from({ length: 1000 }, () =>
      decodeUnlabelled(Buffer.from(Uint8Array.from({ length: 12 }, () => 1 + random() * 255)), {}),
    );
    expect(texts.filter((text) => text !== undefined).length).toBeLessThan(20);
  });
});
