import { Field, ObjectType } from "type-graphql";
import { RecordType } from "../record/record.type.ts";

@ObjectType({ description: "Result of `uploadRecord`." })
export class UploadRecordPayload {
  @Field(() => RecordType, { description: "The recording, with its link in `url`." })
  record!: RecordType;

  @Field(() => Boolean, {
    description: "False if an earlier upload with the same idempotency key had already stored the recording.",
  })
  created!: boolean;
}
