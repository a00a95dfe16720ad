import { Field, ID, InterfaceType } from "type-graphql";

@InterfaceType({
  description: "An object that `node` can fetch by its id.",
  autoRegisterImplementations: false,
})
export abstract class Node {
  @Field(() => ID, { description: "The id, which is the same in the API, in links and in the database." })
  id!: string;
}
