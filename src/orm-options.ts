import { Migrator } from "@mikro-orm/migrations";
import { defineConfig } from "@mikro-orm/postgresql";
import { Client } from "pg";
import { driverOptions } from "./database/driver-options.ts";
import type { Tables } from "./database/database.ts";
import { RateLimit } from "./limits/rate-limit.entity.ts";
import { WriteAllowanceRow } from "./limits/write-allowance.entity.ts";
import { AudioRecord, DeletedObject, Mp3Chunk, RecordWaveform } from "./record/record.entity.ts";
import { ShareLink } from "./link/share-link.entity.ts";
import { ResumableUpload, UploadPiece } from "./upload/resumable-upload.entity.ts";
import { UploadTicket } from "./upload/upload-ticket.entity.ts";
import { AccessToken, Invitation, User } from "./user/user.entity.ts";
import { migrations } from "./migrations/index.ts";

/** MikroORM's options, for the service and for the ORM's command line. */
export function ormOptions(databaseUrl: string, poolSize: number) {
  return defineConfig({
    dbName: new Client(driverOptions(databaseUrl)).database ?? "",
    driverOptions: driverOptions(databaseUrl),
    entities: [
      User,
      AccessToken,
      AudioRecord,
      RecordWaveform,
      Mp3Chunk,
      DeletedObject,
      ShareLink,
      RateLimit,
      Invitation,
      WriteAllowanceRow,
      UploadTicket,
      ResumableUpload,
      UploadPiece,
    ],
    extensions: [Migrator],
    forceUtcTimezone: true,
    pool: { min: 0, max: poolSize },
    // Functions are only defined in migrations.
    schemaGenerator: { ignoreRoutines: true },
    migrations: {
      tableName: "schema_migration",
      pathTs: "src/migrations",
      path: "src/migrations",
      snapshotName: ".snapshot",
      migrationsList: migrations,
      // Each in its own transaction, because some indexes are built outside of one.
      allOrNothing: false,
      dropTables: false,
      silent: true,
    },
  });
}

/** The tables of {@link ormOptions}. */
export const tables: Tables = { ormOptions, migrations };
