import type { GraphQLRequestContextWillSendResponse } from "@apollo/server";
import { stringifyChunked } from "@discoveryjs/json-ext";
import type { FormattedExecutionResult } from "graphql";
import { AnswerInPieces } from "../http/answer-in-pieces.ts";
import type { RequestContext } from "./request-context.ts";
import { turn } from "./in-turns.ts";

/** Takes a large result away from Apollo Server, which would write its JSON in one step. */
export function keepLargeResult({
  response,
  contextValue,
}: GraphQLRequestContextWillSendResponse<RequestContext>): void {
  if (response.body.kind !== "single" || !contextValue.expectsLargeAnswer()) return;
  contextValue.keepResult(response.body.singleResult);
  response.body = { kind: "single", singleResult: {} };
}

/** Writes a result as JSON, as Apollo Server does, but other requests go on meanwhile. */
export async function writeInTurns({ errors, data, extensions }: FormattedExecutionResult): Promise<AnswerInPieces> {
  const pieces: Buffer[] = [];
  for (const text of stringifyChunked({ errors, data, extensions })) {
    pieces.push(Buffer.from(text));
    await turn();
  }
  pieces.push(Buffer.from("\n"));
  return new AnswerInPieces(pieces);
}
