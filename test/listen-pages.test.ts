/// <reference lib="dom" />
import { afterAll, beforeAll, describe, expect, it } from "@jest/globals";
import type { Browser } from "playwright-core";
import { inflateSync } from "node:zlib";
import { v4 as uuidv4 } from "uuid";
import { ApiClient, type Credentials } from "./support/api-client.ts";
import { openBrowser } from "./support/browser.ts";
import { needs } from "./support/needs.ts";
import { accessibilityFaults, openPage } from "./support/page.ts";
import { startService, type TestService } from "./support/service.ts";
import { until } from "./support/until.ts";
import { sineWav } from "./support/wav-maker.ts";

const chrome = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

const hostileTitles = [
  `"><script>alert(1)</script>`,
  `' onmouseover='alert(1)' x='`,
  `</title></h1></audio><img src=x onerror=alert(1)>`,
  `&lt;b&gt; &amp;amp; &#60;`,
  `"}],"html":"<script>alert(1)</script>`,
  "שלום עולם מرحבא — a mix of دirections",
  "👩‍👩‍👧‍👦🎙️🏳️‍🌈 é ﷽ Z̷͑",
  `${"a".repeat(250)} ${"<b>".repeat(83)}`,
  "${title} {{title}} %s $& $1 \\u003cb\\u003e",
];

describe("the page that somebody gets with a link", () => {
  let service: TestService;
  let client: ApiClient;
  let ann: Credentials;
  let open: { id: string; listenUrl: string };
  let closed: { id: string; listenUrl: string };
  const wav = sineWav({ seconds: 1.4, amplitude: 0.05 });

  beforeAll(async () => {
    service = await startService();
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
    const upload = async (visibility: string) => {
      const args = `, visibility: ${visibility}, title: "Kitchen take"`;
      return (await client.uploadRecord(ann, wav, { args, fields: "id listenUrl" })).data.uploadRecord.record;
    };
    [open, closed] = [await upload("PUBLIC"), await upload("PRIVATE")];
  });

  afterAll(async () => {
    await service[Symbol.asyncDispose]();
  });

  const share = async (recordId = closed.id, args = "") => {
    const query = `mutation { createLink(recordId: "${recordId}"${args}) { link { id url listenUrl } } }`;
    const { link } = (await client.run(query, {}, ann)).data.createLink;
    return link as { id: string; url: string; listenUrl: string };
  };
  const rename = async (title: string) =>
    await client.run(
      "mutation ($id: ID!, $title: String!) { updateRecord(id: $id, title: $title) { record { id } } }",
      { id: open.id, title },
      ann,
    );
  const get = async (url: string, headers: Record<string, string> = {}) => {
    const response = await fetch(url, { headers: { accept: chrome, ...headers } });
    return { status: response.status, headers: response.headers, text: await response.text() };
  };
  const contentOf = (html: string, name: string) =>
    new RegExp(`<meta (?:property|name)="${name}" content="([^"]*)">`).exec(html)?.[1]?.replaceAll("&amp;", "&");
  const oembedIn = (html: string) =>
    /<link rel="alternate" type="application\/json\+oembed" href="([^"]*)"/.exec(html)![1]!.replaceAll("&amp;", "&");
  const embedOf = (listenUrl: string) => listenUrl.replace("/listen", "/embed");

  it("has the title, the length, the date, a player and a download, and is for no search engine", async () => {
    const { status, headers, text } = await get(open.listenUrl);
    expect(status).toBe(200);
    expect(headers.get("content-type")).toBe("text/html; charset=utf-8");
    expect(headers.get("x-robots-tag")).toBe("noindex");
    expect(headers.get("cache-control")).toBe("private, no-cache");
    expect(headers.get("referrer-policy")).toBe("no-referrer");
    expect(headers.get("content-security-policy")).toMatch(
      /^default-src 'none';media-src 'self';base-uri 'none';form-action 'none';style-src 'sha256-[^']+';frame-ancestors 'none'$/,
    );
    expect(text).toContain('<meta name="robots" content="noindex">');
    expect(text).toContain('<h1 dir="auto">Kitchen take</h1>');
    expect(text).toContain('<p>0:01 · <time datetime="20');
    expect(text).not.toMatch(/<script|[\s<]on\w+=| style=/);
    const [play, download] = [/ src="([^"]+)"/.exec(text)![1]!, /class="download" href="([^"]+)"/.exec(text)![1]!];
    const dispositions = [play, download].map(async (path) => {
      const response = await fetch(service.url + path.replaceAll("&amp;", "&"), { method: "HEAD" });
      return response.headers.get("content-disposition");
    });
    expect(await Promise.all(dispositions)).toEqual([
      'inline; filename="Kitchen take.mp3"',
      'attachment; filename="Kitchen take.mp3"',
    ]);
    const again = await get(open.listenUrl, { "if-none-match": headers.get("etag")! });
    expect(again.status).toBe(304);
    const head = await fetch(open.listenUrl, { method: "HEAD", headers: { accept: chrome } });
    expect([head.status, head.headers.get("etag")]).toEqual([200, headers.get("etag")]);
  });

  it("tells chats and social networks what it is, with a picture and a player", async () => {
    const { listenUrl } = await share();
    for (const url of [open.listenUrl, listenUrl]) {
      const { text } = await get(url);
      expect(contentOf(text, "og:title")).toBe("Kitchen take");
      expect(contentOf(text, "og:description")).toMatch(/^0:01, \d{1,2} \w+ 20\d\d$/);
      expect(contentOf(text, "og:url")).toBe(url);
      expect(contentOf(text, "music:duration")).toBe("1");
      expect(contentOf(text, "twitter:card")).toBe("summary_large_image"); // no player without https
      const picture = await fetch(contentOf(text, "og:image")!);
      expect(picture.headers.get("content-type")).toBe("image/png");
      expect(picture.headers.get("cross-origin-resource-policy")).toBe("cross-origin");
      expect(coloursOf(Buffer.from(await picture.arrayBuffer()))).toEqual([0, 1]);

      const described = await fetch(oembedIn(text));
      expect(described.headers.get("access-control-allow-origin")).toBe("*");
      const oembed = await described.json();
      expect(oembed).toMatchObject({
        version: "1.0",
        type: "video",
        title: "Kitchen take",
        provider_url: service.url,
        thumbnail_url: contentOf(text, "og:image"),
        width: 480,
        height: 180,
      });
      expect(oembed.html).toContain(`<iframe src="${embedOf(url).replaceAll("&", "&amp;")}" width="480"`);
      const small = await (await fetch(`${oembedIn(text)}&format=json&maxwidth=300&maxheight=100`)).json();
      expect([small.width, small.height]).toEqual([300, 100]);
    }
    // Whoever fetches the MP3 of a share link downloads it.
    expect(contentOf((await get(listenUrl)).text, "og:audio")).toBeUndefined();
    const audio = await fetch(contentOf((await get(open.listenUrl)).text, "og:audio")!, { method: "HEAD" });
    expect(audio.headers.get("content-type")).toBe("audio/mpeg");
  });

  it("may be in the frame of any page only as the small one", async () => {
    for (const url of [open.listenUrl, (await share()).listenUrl]) {
      const { headers, text } = await get(embedOf(url));
      expect(text).toContain(`href="${url.replaceAll("&", "&amp;")}" target="_blank" rel="noopener">Kitchen take</a>`);
      expect(headers.get("content-security-policy")).toMatch(/^default-src 'none';(?!.*frame-ancestors)/);
      expect(headers.get("x-frame-options")).toBeNull();
      expect(headers.get("cross-origin-resource-policy")).toBe("cross-origin");
      const page = await get(url);
      expect(page.headers.get("content-security-policy")).toContain("frame-ancestors 'none'");
    }
  });

  it("is found by the API under its address, and is in its links", async () => {
    const { listenUrl, url } = await share();
    expect(listenUrl).toBe(url.replace("/l/", "/listen/"));
    for (const address of [listenUrl, embedOf(listenUrl), open.listenUrl, embedOf(open.listenUrl)]) {
      const { data } = await client.run("query ($url: URL!) { shared(url: $url) { title } }", { url: address });
      expect([address, data.shared]).toEqual([address, { title: "Kitchen take" }]);
    }
  });

  it("is a page with the right status when the link is gone, and tells nothing of a private recording", async () => {
    const [revoked, expired] = [await share(), await share()];
    await client.run(`mutation { revokeLink(id: "${revoked.id}") { revokedId } }`, {}, ann);
    await service.server.database.pool.query(
      "update share_link set created_at = now() - interval '2 days', expires_at = now() - interval '1 day' where id = $1",
      [expired.id],
    );
    const absent = `${service.url}/listen?id=${uuidv4()}&user=${ann.id}`;
    const bearer = { authorization: `Bearer ${ann.token}` };
    const pages: [url: string, status: number, heading: string, headers?: Record<string, string>][] = [
      [absent, 404, "Recording not found."],
      [closed.listenUrl, 404, "Recording not found."],
      [closed.listenUrl, 404, "Recording not found.", bearer],
      [revoked.listenUrl, 404, "Recording not found."],
      [`${service.url}/listen/short`, 404, "Recording not found."],
      [expired.listenUrl, 410, "This link has expired."],
      [`${service.url}/listen`, 400, "This link is incomplete, or it was changed."],
    ];
    for (const [url, status, heading, headers] of pages) {
      const embedded = embedOf(url);
      const picture = pictureOf(url);
      const oembed = `${service.url}/oembed?url=${encodeURIComponent(url)}`;
      for (const address of [url, embedded, ...(status === 400 ? [] : [picture]), oembed]) {
        const page = await get(address, headers);
        expect([address, page.status]).toEqual([address, status]);
        expect([address, page.text]).toEqual([address, expect.stringContaining(`<h1>${heading}`)]);
        // In a frame, the page would refuse to be shown.
        const target = address === url ? "" : ' target="_blank" rel="noopener"';
        expect(page.text).toContain(`<a href="/"${target}>Go to web-user-music</a>`);
        const program = await get(address, { accept: "*/*" });
        expect([program.status, JSON.parse(program.text).error.code]).toEqual([status, expect.any(String)]);
      }
      expect((await get(embedded, headers)).headers.get("x-frame-options")).toBeNull();
    }
    const withoutIds = async (url: string) => (await get(url)).text.replace(/request [\da-f-]+/, "");
    expect(await withoutIds(closed.listenUrl)).toBe(await withoutIds(absent));
    for (const url of ["", "nonsense", "https://example.com/", `${service.url}/graphql`]) {
      const { status } = await get(`${service.url}/oembed?url=${encodeURIComponent(url)}`, { accept: "*/*" });
      expect([url, status]).toEqual([url, url.includes(":") ? 404 : 400]);
    }
    expect((await get(`${oembedIn((await get(open.listenUrl)).text)}&format=xml`)).status).toBe(501);
  });

  /** The address of the picture of a page, also of one that does not exist. */
  function pictureOf(listenUrl: string): string {
    const { pathname, searchParams } = new URL(listenUrl);
    const secret = pathname.split("/")[2];
    if (secret !== undefined) return `${service.url}/l/${secret}/waveform.png`;
    return `${service.url}/record/${searchParams.get("id")}/waveform.png?user=${searchParams.get("user")}`;
  }

  it("is opened by a link with junk, capitals or slashes around it", async () => {
    const { listenUrl } = await share();
    const { pathname, search } = new URL(open.listenUrl);
    const shared = new URL(listenUrl).pathname;
    for (const path of [
      `${pathname}/${search}`,
      `/${pathname}${search}).`,
      `${pathname}${search.replace("&", "&amp;")}`,
      `/LISTEN${search}`,
      `${shared}/`,
      `${shared})`,
      shared.replace("/listen", "/Listen"),
    ]) {
      expect([path, (await get(service.url + path)).status]).toEqual([path, 200]);
    }
  });

  it("escapes every title, in the page, in the tags and in JSON", async () => {
    for (const title of hostileTitles) {
      await rename(title);
      const { text } = await get(open.listenUrl);
      expect(text).not.toMatch(/<script|<img|<b>/i);
      const oembed = await (await fetch(oembedIn(text))).json();
      expect(oembed.title).toBe(title.normalize("NFC"));
      expect(oembed.html).toMatch(/^<iframe( \w+="[^"<>]*")+><\/iframe>$/);
      expect((await get(embedOf(open.listenUrl))).text).not.toMatch(/<script|<img|<b>/i);
    }
    await rename("Kitchen take");
  });

  it("has a player for social networks where it is on https, and a path where a proxy has put it", async () => {
    const env = { DATABASE_URL: service.databaseUrl, PUBLIC_URL: "https://a.example/music/" };
    await using named = await startService(env);
    const { pathname, search } = new URL(open.listenUrl);
    const { text } = await get(named.url + pathname + search);
    expect(contentOf(text, "twitter:card")).toBe("player");
    expect(contentOf(text, "twitter:player")).toBe(`https://a.example/music/embed${search}`);
    expect(contentOf(text, "og:url")).toBe(`https://a.example/music/listen${search}`);
    expect(text).toContain(` src="/music/record${search.replace("&", "&amp;")}&amp;inline=1"`);
    expect((await get(`${named.url}/listen/short`)).text).toContain('<a href="/music/">Go to web-user-music</a>');
  });

  needs("Chromium", () => {
    let browser: Browser;

    beforeAll(async () => void (browser = await openBrowser()));

    afterAll(async () => await browser?.close());

    it("plays without a script, and only then is it a download", async () => {
      const { id, listenUrl } = await share();
      const downloads = async () => {
        const { record } = (await client.run(`{ record(id: "${closed.id}") { links { id downloads } } }`, {}, ann))
          .data;
        return record.links.find((link: { id: string }) => link.id === id).downloads as number;
      };
      for (const agent of ["TelegramBot (like TwitterBot)", "Mozilla/5.0 (X11; Linux x86_64) Chrome/120"]) {
        const { text } = await get(listenUrl, { "user-agent": agent });
        for (const url of [embedOf(listenUrl), oembedIn(text), contentOf(text, "og:image")!]) {
          expect((await get(url, { "user-agent": agent })).status).toBe(200);
        }
      }
      await using opened = await openPage(browser, listenUrl, { javaScriptEnabled: false });
      const { page, complaints } = opened;
      await page.waitForLoadState("networkidle");
      expect(await downloads()).toBe(0);
      await page.focus("audio");
      const [response] = await Promise.all([
        page.waitForResponse((response) => response.url().includes("/l/")),
        page.keyboard.press("Space"),
      ]);
      expect(response.status()).toBe(206);
      expect(await until(downloads, (count) => count > 0)).toBe(1);
      expect(complaints).toEqual([]);
    });

    it("knows the length before somebody plays, where nothing is counted", async () => {
      await using opened = await openPage(browser, open.listenUrl);
      const { page, complaints } = opened;
      const duration = await page.evaluate(async () => {
        const audio = document.querySelector("audio")!;
        if (audio.readyState === 0) await new Promise((resolve) => audio.addEventListener("loadedmetadata", resolve));
        return audio.duration;
      });
      expect(duration).toBeCloseTo(1.4, 1);
      expect(complaints).toEqual([]);
    });

    it("shows hostile titles as text", async () => {
      await using opened = await openPage(browser, open.listenUrl);
      const { page, complaints } = opened;
      await page.addInitScript("globalThis.alert = () => (globalThis.isHacked = true)");
      for (const title of hostileTitles) {
        await rename(title);
        const shown = title.normalize("NFC");
        for (const [url, elements] of [
          [open.listenUrl, ["MAIN", "ARTICLE", "H1", "P", "TIME", "svg", "path", "AUDIO", "A", "A"]],
          [embedOf(open.listenUrl), ["MAIN", "HEADER", "H1", "A", "SPAN", "svg", "path", "AUDIO", "A"]],
        ] as const) {
          await page.goto(url);
          const found = await page.evaluate(() => ({
            heading: document.querySelector("h1")!.textContent,
            tab: document.title,
            player: document.querySelector("audio")!.getAttribute("aria-label"),
            elements: [...document.body.querySelectorAll("*")].map((element) => element.tagName),
            isHacked: "isHacked" in globalThis,
          }));
          const tab = shown.replaceAll(/\s+/g, " ");
          expect(found).toEqual({ heading: shown, tab, player: shown, elements, isHacked: false });
        }
        await page.goto(open.listenUrl);
        expect(await page.getAttribute('meta[property="og:title"]', "content")).toBe(shown);
      }
      expect(complaints).toEqual([]);
      await rename("Kitchen take");
    });

    it("has no fault that axe finds, in light and dark, and fits a narrow screen", async () => {
      const { listenUrl } = await share(closed.id, ', expiresAt: "2100-01-01T00:00:00Z"');
      const absent = `${service.url}/listen/${"x".repeat(32)}`;
      for (const colorScheme of ["light", "dark"] as const) {
        const options = { colorScheme, viewport: { width: 320, height: 640 }, bypassCSP: true };
        await using opened = await openPage(browser, open.listenUrl, options);
        const { page } = opened;
        for (const url of [listenUrl, embedOf(listenUrl), absent]) {
          await page.goto(url);
          expect([url, await accessibilityFaults(page)]).toEqual([url, []]);
          expect(await page.evaluate("document.documentElement.scrollWidth")).toBeLessThanOrEqual(320);
          const broken = `[...document.querySelectorAll("span")].some((text) => text.getClientRects().length > 1 || text.offsetHeight > 30)`;
          expect([url, await page.evaluate(broken)]).toEqual([url, false]);
        }
      }
    });

    it("is reached by keyboard: the player, then the download", async () => {
      await using opened = await openPage(browser, open.listenUrl);
      const { page, complaints } = opened;
      const focused = async (): Promise<string> => {
        await page.keyboard.press("Tab");
        return await page.evaluate("document.activeElement.className || document.activeElement.tagName");
      };
      expect(await focused()).toBe("AUDIO");
      const stops = new Set<string>();
      for (let stop = 0; stop < 12 && !stops.has("download"); stop++) stops.add(await focused());
      expect(stops).toContain("download");
      expect(await page.evaluate("getComputedStyle(document.activeElement).outlineWidth")).toBe("3px");
      expect(complaints).toEqual([]);
    });

    it("plays in the frame of a page of another origin", async () => {
      await using opened = await openPage(browser, service.url);
      const page = await opened.context.newPage();
      await page.setContent(`<iframe src="${embedOf((await share()).listenUrl)}" width="480" height="180"></iframe>`);
      const frame = page.frames()[1]!;
      await frame.waitForSelector("audio");
      const duration = await frame.evaluate(async () => {
        const audio = document.querySelector("audio")!;
        audio.muted = true;
        await audio.play();
        return audio.duration;
      });
      expect(duration).toBeCloseTo(1.4, 1);
    });
  });
});

/** The values of the pixels of a picture that the service has drawn, checked against its own size. */
function coloursOf(png: Buffer): number[] {
  expect(png.subarray(0, 8).toString("latin1")).toBe("\x89PNG\r\n\x1a\n");
  expect([png.readUInt32BE(16), png.readUInt32BE(20)]).toEqual([1200, 630]);
  expect(png.length).toBeLessThan(10_000);
  const start = png.indexOf("IDAT") + 4;
  const rows = inflateSync(png.subarray(start, start + png.readUInt32BE(start - 8)));
  expect(rows.length).toBe(301 * 630);
  const pixels = new Set<number>();
  for (const [at, byte] of rows.entries()) {
    if (at % 301 > 0) for (const shift of [0, 2, 4, 6]) pixels.add((byte >> shift) & 3);
  }
  return [...pixels].toSorted((a, b) => a - b);
}
