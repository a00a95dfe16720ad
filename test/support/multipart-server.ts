import { Upload, type FileUpload } from "graphql-upload-minimal";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createHash } from "node:crypto";
import { ServiceError } from "../../src/errors/errors.ts";
import { requirePreflight } from "../../src/graphql/graphql-request.ts";
import type { GraphQLRequestBody } from "../../src/graphql/multipart-fields.ts";
import { readMultipartRequest, refuseByLength, type MultipartLimits } from "../../src/graphql/multipart-request.ts";
import { closeAfterEarlyAnswer, LingeringConnections, lingerLimits } from "../../src/http/early-answer.ts";
import { openIncomingFile } from "../../src/upload/incoming-file.ts";

/** Limits that are small enough to reach in a test. */
export const testLimits: MultipartLimits = {
  maxFileBytes: 1_000_000,
  maxOperationsBytes: 2000,
  maxMapBytes: 200,
  stallSeconds: 20,
};

/** What the server does with a request that is not refused before its body. */
export interface MultipartServerOptions {
  readonly limits?: Partial<MultipartLimits>;
  readonly authorize?: (operations: GraphQLRequestBody) => Promise<void>;
  /** Takes the place of the resolver. By default it reads the whole file and answers its name, length and SHA-256. */
  readonly resolve?: (file: Promise<FileUpload>, body: GraphQLRequestBody) => Promise<unknown>;
}

/** A bare node:http server around the multipart reader. */
export interface MultipartServer extends AsyncDisposable {
  readonly port: number;
  /** The next error of the server, even if there is nobody to respond to. */
  nextFailure(): Promise<unknown>;
}

/** Starts the server on a free port. */
export async function startMultipartServer(options: MultipartServerOptions = {}): Promise<MultipartServer> {
  const limits = { ...testLimits, ...options.limits };
  const resolve = options.resolve ?? readWhole;
  let failed = Promise.withResolvers<unknown>();

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<unknown> {
    requirePreflight(request);
    refuseByLength(request.headers, limits);
    const body = await readMultipartRequest(request, response, limits, options.authorize);
    const upload = body.variables?.["file"];
    if (!(upload instanceof Upload)) throw new ServiceError("BAD_USER_INPUT", "No file where the resolver looks.");
    return await resolve(upload.promise, body);
  }

  const server = createServer((request, response) => {
    closeAfterEarlyAnswer(request, response, lingering);
    serve(request, response).then(
      (data) => answer(response, 200, { data }),
      (error: unknown) => {
        failed.resolve(error);
        failed = Promise.withResolvers();
        if (error instanceof ServiceError) {
          answer(response, error.status, { code: error.code, message: error.message, ...error.details });
        } else {
          answer(response, 500, { code: "INTERNAL_SERVER_ERROR", message: String(error) });
        }
      },
    );
  });
  const lingering = new LingeringConnections(server, lingerLimits);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The server has no port.");
  return {
    port: address.port,
    nextFailure: async () => await failed.promise,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((closed) => server.close(closed));
    },
  };
}

async function readWhole(upload: Promise<FileUpload>): Promise<unknown> {
  using file = await openIncomingFile(upload);
  const hash = createHash("sha256");
  let byteLength = 0;
  for await (const chunk of file.bytes()) {
    byteLength += chunk.length;
    hash.update(chunk);
  }
  return { fileName: file.fileName, byteLength, sha256: hash.digest("hex") };
}

function answer(response: ServerResponse, status: number, value: unknown): void {
  if (response.destroyed) return;
  const body = JSON.stringify(value);
  response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(body) });
  response.end(body);
}
