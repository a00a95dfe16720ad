import type { Credentials } from "./api-client.ts";
import { connectRaw, fieldPart, filePart, multipartBody, rawPost, type RawConnection } from "./raw-http.ts";

/**
 * The bytes of an upload request, and the offset of its file.
 * @param args more arguments of the mutation, such as `, title: "x"`
 */
export function uploadRequest(
  user: Credentials,
  wav: Buffer,
  args = "",
): { readonly bytes: Buffer; readonly fileStart: number } {
  const query = `mutation ($file: Upload!) { uploadRecord(file: $file${args}) { record { id url durationSeconds } } }`;
  const body = multipartBody(
    fieldPart("operations", JSON.stringify({ query, variables: { file: null } })),
    fieldPart("map", '{"0":["variables.file"]}'),
    filePart("0", "take.wav", wav),
  );
  const bytes = rawPost(body, { authorization: `Bearer ${user.token}` });
  return { bytes, fileStart: bytes.indexOf(wav.subarray(0, 44)) };
}

/** An upload that has stopped in the middle of its file. */
export interface HalfUpload extends Disposable {
  readonly connection: RawConnection;
  /** Sends the rest. */
  finish(): Promise<void>;
}

/** Sends an upload up to the middle of its file. */
export async function startHalfUpload(
  port: number,
  user: Credentials,
  wav: Buffer,
  args?: string,
): Promise<HalfUpload> {
  const { bytes, fileStart } = uploadRequest(user, wav, args);
  const middle = fileStart + Math.floor(wav.length / 2);
  const connection = await connectRaw(port);
  await connection.send(bytes.subarray(0, middle));
  return {
    connection,
    finish: async () => await connection.send(bytes.subarray(middle)),
    [Symbol.dispose]: () => connection[Symbol.dispose](),
  };
}
