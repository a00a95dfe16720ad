import { Field, ObjectType } from "type-graphql";
import { RecordType } from "../record/record.type.ts";

@ObjectType({ description: "A stored recording." })
export class UploadRecordPayload {
  @Field(() => RecordType, { description: "The recording, with its link in `url`." })
  record!: RecordType;

  @Field(() => Boolean, {
    description: "False: an earlier upload with the same idempotency key had stored it already.",
  })
  created!: boolean;
}
