import { afterAll, beforeAll, expect } from "@jest/globals";
import { ApiClient, type Credentials, type UploadRequest } from "./api-client.ts";
import { startService, type TestService } from "./service.ts";

/** The fields of the recording that were selected, and its MP3. */
export interface Downloaded {
  readonly record: any;
  readonly mp3: Buffer;
}

/**
 * Starts a service before the tests of this file or block, and ends it after them. Returns a function that uploads a
 * WAV and downloads the MP3 from the `url`; `request.fields` are selected besides.
 */
export function serviceForUploads(): (wav: Uint8Array, request?: UploadRequest) => Promise<Downloaded> {
  let service: TestService | undefined;
  let client: ApiClient;
  let ann: Credentials;

  beforeAll(async () => {
    service = await startService();
    client = new ApiClient(service.url);
    ann = await client.createUser("Ann");
  });

  afterAll(async () => await service?.[Symbol.asyncDispose]());

  return async (wav, { fields = "", ...request } = {}) => {
    const { data, errors } = await client.uploadRecord(ann, wav, { ...request, fields: `url ${fields}` });
    expect(errors).toBeUndefined();
    const { url, ...record } = data.uploadRecord.record;
    return { record, mp3: Buffer.from(await (await fetch(url)).arrayBuffer()) };
  };
}
