import { createHash, createHmac, randomUUID, timingSafeEqual } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";

/** A small S3 of our own, which allows no more than any real one does: see `s3-probes.ts`. */
export interface StrictS3 extends AsyncDisposable {
  readonly url: string;
  /** Bytes that its buckets may have together. */
  maxBytes: number;
  /** How much older than it is all that it lists pretends to be, in hours. */
  hoursOlder: number;
  /** Keys of objects that it refuses to delete, as S3 does under an object lock. */
  readonly lockedKeys: Set<string>;
  /** Is waited for before it answers a request. */
  beforeAnswer: ((request: IncomingMessage) => Promise<void> | void) | undefined;
}

export interface S3Keys {
  readonly accessKey: string;
  readonly secretKey: string;
}

interface StoredBytes {
  readonly bytes: Buffer;
  readonly etag: string;
}

interface OpenParts {
  readonly key: string;
  readonly begunAt: Date;
  readonly parts: Map<number, StoredBytes>;
}

interface Bucket {
  readonly objects: Map<string, StoredBytes & { readonly writtenAt: Date }>;
  readonly uploads: Map<string, OpenParts>;
}

/** An error as S3 answers it. */
class Refusal extends Error {
  readonly code: string;
  readonly status: number;

  constructor(code: string, status: number) {
    super(code);
    this.code = code;
    this.status = status;
  }
}

const smallestPartBytes = 5 * 1024 ** 2;
const allowedClockErrorMs = 15 * 60_000;
const allowedHeaders =
  /^(?:host|connection|content-length|content-type|range|user-agent|amz-sdk-.*|x-amz-(?:date|content-sha256|user-agent)|authorization|expect)$/;

interface Asked {
  readonly method: string;
  readonly bucket: string;
  readonly key: string;
  readonly query: URLSearchParams;
  readonly range: string | undefined;
  readonly body: Buffer;
}

interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | string;
}

/** Starts it, with empty buckets of these names. */
export async function startStrictS3(keys: S3Keys, buckets: readonly string[]): Promise<StrictS3> {
  const service = new Service(keys, buckets);
  const server = createServer((request, response) => void answer(service, request, response));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The server has no port");
  return {
    url: `http://127.0.0.1:${address.port}`,
    get maxBytes() {
      return service.maxBytes;
    },
    set maxBytes(bytes: number) {
      service.maxBytes = bytes;
    },
    get hoursOlder() {
      return service.hoursOlder;
    },
    set hoursOlder(hours: number) {
      service.hoursOlder = hours;
    },
    lockedKeys: service.lockedKeys,
    get beforeAnswer() {
      return service.beforeAnswer;
    },
    set beforeAnswer(wait: StrictS3["beforeAnswer"]) {
      service.beforeAnswer = wait;
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
}

async function answer(service: Service, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of request) chunks.push(chunk as Buffer);
  } catch {
    return; // the client went away
  }
  await service.beforeAnswer?.(request);
  const { status, headers, body = "" } = service.answer(request, Buffer.concat(chunks));
  response.writeHead(status, { "content-length": Buffer.byteLength(body), ...headers });
  response.end(request.method === "HEAD" ? undefined : body);
}

class Service {
  maxBytes = Infinity;
  hoursOlder = 0;
  readonly lockedKeys = new Set<string>();
  beforeAnswer: StrictS3["beforeAnswer"];
  readonly #keys: S3Keys;
  readonly #buckets: ReadonlyMap<string, Bucket>;

  constructor(keys: S3Keys, buckets: readonly string[]) {
    this.#keys = keys;
    this.#buckets = new Map(buckets.map((name) => [name, { objects: new Map(), uploads: new Map() }]));
  }

  answer(request: IncomingMessage, body: Buffer): Answer {
    try {
      const url = new URL(request.url ?? "/", "http://s3");
      this.#requireSignature(request, url, body);
      const [bucket = "", ...rest] = url.pathname.slice(1).split("/");
      const key = rest.map(decodeURIComponent).join("/");
      url.searchParams.delete("x-id"); // of the AWS client, for its logs
      const { method = "", headers } = request;
      return this.#run({ method, bucket, key, query: url.searchParams, range: headers.range, body });
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      const text = xml("Error", `<Code>${error.code}</Code><Message>${error.code}</Message>`);
      return { status: error.status, headers: { "content-type": "application/xml" }, body: text };
    }
  }

  /** Signature version 4 in the header, over the whole body (docs.aws.amazon.com, "Authenticating Requests"). */
  #requireSignature(request: IncomingMessage, url: URL, body: Buffer): void {
    const { headers, method = "" } = request;
    const unknown = Object.keys(headers).find((name) => !allowedHeaders.test(name));
    if (unknown !== undefined) throw new Refusal("NotImplemented", 501);
    const form =
      /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([\da-f]{64})$/;
    const [, accessKey, date = "", region = "", signedNames = "", signature = ""] =
      form.exec(headers.authorization ?? "") ?? [];
    if (accessKey === undefined) throw new Refusal("AccessDenied", 403);
    if (accessKey !== this.#keys.accessKey) throw new Refusal("InvalidAccessKeyId", 403);
    const names = signedNames.split(";");
    const mustBeSigned = Object.keys(headers).filter((name) => name === "host" || name.startsWith("x-amz-"));
    if (!mustBeSigned.every((name) => names.includes(name))) throw new Refusal("AccessDenied", 403);
    const time = String(headers["x-amz-date"]);
    const given = String(headers["x-amz-content-sha256"]);
    const canonical = [
      method,
      url.pathname,
      [...url.searchParams]
        .map(([name, value]) => `${encoded(name)}=${encoded(value)}`)
        .toSorted()
        .join("&"),
      ...names.map((name) => `${name}:${String(headers[name]).trim().replaceAll(/ +/g, " ")}`),
      "",
      signedNames,
      given,
    ].join("\n");
    const scope = `${date}/${region}/s3/aws4_request`;
    const text = ["AWS4-HMAC-SHA256", time, scope, sha256(canonical)].join("\n");
    const key = [date, region, "s3", "aws4_request"].reduce<string | Buffer>(hmac, `AWS4${this.#keys.secretKey}`);
    if (!timingSafeEqual(hmac(key, text), Buffer.from(signature, "hex"))) {
      throw new Refusal("SignatureDoesNotMatch", 403);
    }
    const [, year, month, day, hour, minute, second] = /^(....)(..)(..)T(..)(..)(..)Z$/.exec(time) ?? [];
    const at = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
    if (!(Math.abs(Date.now() - at) <= allowedClockErrorMs)) throw new Refusal("RequestTimeTooSkewed", 403);
    if (given !== sha256(body)) throw new Refusal("XAmzContentSHA256Mismatch", 400);
  }

  #run(asked: Asked): Answer {
    const { method, key, query } = asked;
    const bucket = this.#buckets.get(asked.bucket);
    if (!bucket) throw new Refusal("NoSuchBucket", 404);
    const has = [...query.keys()].filter(
      (name) => query.get(name) === "" || name === "uploadId" || name === "list-type",
    );
    const operation = `${method} ${key === "" ? "bucket" : "object"} ${has.toSorted().join(" ")}`.trim();
    switch (operation) {
      case "PUT object":
        return this.#put(bucket, asked);
      case "GET object":
        return get(bucket, asked);
      case "HEAD object":
        return { ...get(bucket, { ...asked, range: undefined }), status: 200 };
      case "DELETE object":
        if (this.lockedKeys.has(key)) throw new Refusal("AccessDenied", 403);
        bucket.objects.delete(key);
        return { status: 204 };
      case "POST object uploads":
        return begin(bucket, asked);
      case "PUT object uploadId":
        return this.#putPart(bucket, asked);
      case "POST object uploadId":
        return complete(bucket, asked);
      case "DELETE object uploadId":
        uploadOf(bucket, asked);
        bucket.uploads.delete(query.get("uploadId")!);
        return { status: 204 };
      case "GET bucket list-type":
        return list(bucket, query, this.hoursOlder);
      case "GET bucket uploads":
        return listUploads(bucket, query, this.hoursOlder);
      default:
        throw new Refusal("NotImplemented", 501);
    }
  }

  #put(bucket: Bucket, { key, body }: Asked): Answer {
    this.#requireRoom(body);
    const etag = md5(body);
    bucket.objects.set(key, { bytes: body, etag, writtenAt: new Date() });
    return { status: 200, headers: { etag } };
  }

  #putPart(bucket: Bucket, asked: Asked): Answer {
    const number = Number(asked.query.get("partNumber"));
    if (!Number.isInteger(number) || number < 1 || number > 10_000) throw new Refusal("InvalidArgument", 400);
    const { parts } = uploadOf(bucket, asked);
    this.#requireRoom(asked.body);
    const etag = md5(asked.body);
    parts.set(number, { bytes: asked.body, etag });
    return { status: 200, headers: { etag } };
  }

  #requireRoom({ length }: Buffer): void {
    let bytes = length;
    for (const { objects, uploads } of this.#buckets.values()) {
      for (const object of objects.values()) bytes += object.bytes.length;
      for (const { parts } of uploads.values()) for (const part of parts.values()) bytes += part.bytes.length;
    }
    if (bytes > this.maxBytes) throw new Refusal("QuotaExceeded", 403);
  }
}

function get({ objects }: Bucket, { key, range }: Asked): Answer {
  const object = objects.get(key);
  if (!object) throw new Refusal("NoSuchKey", 404);
  const { bytes, etag } = object;
  const headers = { etag, "content-type": "audio/mpeg" };
  if (range === undefined) return { status: 200, headers, body: bytes };
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(range) ?? [];
  if (first === undefined) throw new Refusal("NotImplemented", 501);
  const end = Math.min(Number(last), bytes.length - 1);
  if (Number(first) > end) throw new Refusal("InvalidRange", 416);
  const body = bytes.subarray(Number(first), end + 1);
  return { status: 206, headers: { ...headers, "content-range": `bytes ${first}-${end}/${bytes.length}` }, body };
}

function begin({ uploads }: Bucket, { key }: Asked): Answer {
  const id = randomUUID();
  uploads.set(id, { key, begunAt: new Date(), parts: new Map() });
  return { status: 200, body: xml("InitiateMultipartUploadResult", `<UploadId>${id}</UploadId>`) };
}

function uploadOf({ uploads }: Bucket, { key, query }: Asked): OpenParts {
  const upload = uploads.get(query.get("uploadId") ?? "");
  if (upload?.key !== key) throw new Refusal("NoSuchUpload", 404);
  return upload;
}

/** Joins the parts: in ascending order, of one size but the last, which is at most as large, and as they were sent. */
function complete(bucket: Bucket, asked: Asked): Answer {
  const { parts } = uploadOf(bucket, asked);
  const named = [...asked.body.toString().matchAll(/<Part>(.*?)<\/Part>/gs)].map(([, text = ""]) => ({
    number: Number(/<PartNumber>(\d+)<\/PartNumber>/.exec(text)?.[1]),
    etag: /<ETag>(.*?)<\/ETag>/.exec(text)?.[1]?.replaceAll("&quot;", '"'),
  }));
  if (named.length === 0) throw new Refusal("MalformedXML", 400);
  if (named.some(({ number }, at) => at > 0 && number <= named[at - 1]!.number))
    throw new Refusal("InvalidPartOrder", 400);
  if (named.length !== parts.size) throw new Refusal("InvalidPart", 400);
  const all = named.map(({ number, etag }, at) => {
    const part = parts.get(number);
    if (part?.etag !== etag || part === undefined || number !== at + 1) throw new Refusal("InvalidPart", 400);
    return part.bytes;
  });
  const [size = 0] = all.map(({ length }) => length);
  if (all.slice(0, -1).some(({ length }) => length < smallestPartBytes)) throw new Refusal("EntityTooSmall", 400);
  const isEqual = all.every(({ length }, at) => (at < all.length - 1 ? length === size : length <= size));
  if (!isEqual) throw new Refusal("InvalidPart", 400);
  const etag = `"${createHash("md5")
    .update(named.map(({ etag }) => etag).join())
    .digest("hex")}-${named.length}"`;
  bucket.objects.set(asked.key, { bytes: Buffer.concat(all), etag, writtenAt: new Date() });
  bucket.uploads.delete(asked.query.get("uploadId")!);
  return { status: 200, body: xml("CompleteMultipartUploadResult", `<ETag>${etag.replaceAll('"', "&quot;")}</ETag>`) };
}

function list({ objects }: Bucket, query: URLSearchParams, hoursOlder: number): Answer {
  const after = query.get("start-after") ?? "";
  const most = Number(query.get("max-keys") ?? 1000);
  const found = [...objects]
    .filter(([key]) => key.startsWith(query.get("prefix") ?? "") && key > after)
    .toSorted(([a], [b]) => (a < b ? -1 : 1));
  const contents = found
    .slice(0, most)
    .map(
      ([key, { bytes, writtenAt }]) =>
        `<Contents><Key>${key}</Key><LastModified>${listed(writtenAt, hoursOlder)}</LastModified><Size>${bytes.length}</Size></Contents>`,
    );
  return {
    status: 200,
    body: xml("ListBucketResult", `<IsTruncated>${found.length > most}</IsTruncated>${contents.join("")}`),
  };
}

/** In the order of the keys, and for one key in that of their ids. */
function listUploads({ uploads }: Bucket, query: URLSearchParams, hoursOlder: number): Answer {
  const most = Number(query.get("max-uploads") ?? 1000);
  const after = `${query.get("key-marker") ?? ""}\0${query.get("upload-id-marker") ?? ""}`;
  const found = [...uploads]
    .map(([id, { key, begunAt }]) => ({ id, key, begunAt, place: `${key}\0${id}` }))
    .filter(({ key, place }) => key.startsWith(query.get("prefix") ?? "") && place > after)
    .toSorted((a, b) => (a.place < b.place ? -1 : 1));
  const shown = found.slice(0, most);
  const last = found.length > most ? shown.at(-1) : undefined;
  const texts = shown.map(
    ({ id, key, begunAt }) =>
      `<Upload><Key>${key}</Key><UploadId>${id}</UploadId><Initiated>${listed(begunAt, hoursOlder)}</Initiated></Upload>`,
  );
  const next = last
    ? `<NextKeyMarker>${last.key}</NextKeyMarker><NextUploadIdMarker>${last.id}</NextUploadIdMarker>`
    : "";
  const body = `<IsTruncated>${last !== undefined}</IsTruncated>${next}${texts.join("")}`;
  return { status: 200, body: xml("ListMultipartUploadsResult", body) };
}

function listed(time: Date, hoursOlder: number): string {
  return new Date(time.getTime() - hoursOlder * 3_600_000).toISOString();
}

function xml(name: string, content: string): string {
  return `<?xml version="1.0" encoding="UTF-8"?><${name}>${content}</${name}>`;
}

function encoded(text: string): string {
  return encodeURIComponent(text).replaceAll(
    /[!'()*]/g,
    (sign) => `%${sign.codePointAt(0)!.toString(16).toUpperCase()}`,
  );
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}

function sha256(bytes: string | Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function md5(bytes: Buffer): string {
  return `"${createHash("md5").update(bytes).digest("hex")}"`;
}
