import { GraphQLError, GraphQLScalarType, type ASTNode } from "graphql";
import { Upload } from "graphql-upload-minimal";
import { ServiceError } from "../errors/errors.ts";

/** What to do if a file was sent in another form. */
export const howToSendFile =
  "Send a file as multipart/form-data, as docs/clients.md shows. Apollo Client needs apollo-upload-client for this.";

/** A file of a multipart request. Resolvers get a `Promise<FileUpload>`. */
export const GraphQLUpload = new GraphQLScalarType({
  name: "Upload",
  description: "A file, sent as multipart/form-data. A JSON body cannot carry one.",
  specifiedByURL: "https://github.com/jaydenseric/graphql-multipart-request-spec",
  parseValue(value) {
    if (value instanceof Upload) return value.promise;
    const isList = Array.isArray(value) && value.some((item) => item instanceof Upload);
    throw notAFile(
      isList ? "This variable takes one file, not a list. Send one request for each file." : howToSendFile,
    );
  },
  parseLiteral: (node) => {
    throw notAFile(`A file cannot be part of the document. ${howToSendFile}`, node);
  },
  serialize() {
    throw new Error("No field answers with a file.");
  },
});

/** The ServiceError inside makes its sentence the whole message. */
function notAFile(sentence: string, node?: ASTNode): GraphQLError {
  return new GraphQLError(sentence, { nodes: node, originalError: new ServiceError("BAD_USER_INPUT", sentence) });
}
