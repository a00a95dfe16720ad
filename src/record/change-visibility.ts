import type { SqlEntityManager } from "@mikro-orm/postgresql";
import { ServiceError } from "../errors.ts";
import { findOwnRecord } from "./find-record.ts";
import type { AudioRecord } from "./record.entity.ts";
import type { Visibility } from "./visibility.ts";

/**
 * Opens the plain link of the owner's recording to whoever has it, or closes it to all but the owner.
 * @throws {ServiceError} NOT_FOUND for a record that is absent or somebody else's
 */
export async function changeVisibility(
  em: SqlEntityManager,
  ownerId: number,
  id: string,
  visibility: Visibility,
): Promise<AudioRecord> {
  const record = await findOwnRecord(em, ownerId, id);
  if (!record) throw new ServiceError("NOT_FOUND", "There is no such recording.");
  record.visibility = visibility;
  await em.flush();
  return record;
}
