import { Field, ID, InterfaceType } from "type-graphql";

@InterfaceType({
  description:
    "An object that `node` and `nodes` can fetch by its id. A `ShareLink`, an `AccessToken` or an `UploadTicket` has an id of " +
    "its own, but is only fetched with its recording or its user. The id of a `ResumableUpload` is that of its recording, " +
    "which `node` fetches when it is ready; `upload` fetches the upload.",
  autoRegisterImplementations: false,
})
export abstract class Node {
  @Field(() => ID, { description: "The id, which is the same in the API, in links and in the database." })
  id!: string;
}
