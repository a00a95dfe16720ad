import { Field, ID, InterfaceType } from "type-graphql";

@InterfaceType({
  description: "Anything that has an id of its own and can be fetched with `node`.",
  autoRegisterImplementations: false,
})
export abstract class Node {
  @Field(() => ID, { description: "The id: the same string here, in links and in the database." })
  id!: string;
}
