import { FirstTables } from "./20261123064412_first-tables.ts";
import { SharingAndQuotas } from "./20261123072521_sharing-and-quotas.ts";
import { RecordLibrary } from "./20261123072600_record-library.ts";
import { RateLimit } from "./20261123072629_rate-limit.ts";
import { TokenScopes } from "./20261123074400_token-scopes.ts";
import { NoRequestBytes } from "./20261123085500_no-request-bytes.ts";
import { LeftOutBytes } from "./20261126201500_left-out-bytes.ts";
import { Registration } from "./20261126214632_registration.ts";
import { LeastPrivilege } from "./20261126223000_least-privilege.ts";
import { TrueLevels } from "./20261127035000_true-levels.ts";
import { QuotaState } from "./20261127045000_quota-state.ts";
import { UploadTickets } from "./20261127045411_upload-tickets.ts";
import { Identities } from "./20261127050550_identities.ts";
import { RenewedTokens } from "./20261127051500_renewed-tokens.ts";
import { TokenAtTheEnd } from "./20261127083000_token-at-the-end.ts";
import { PlayKeys } from "./20261127083500_play-keys.ts";
import { ChaptersAndProduction } from "./20261127090000_chapters-and-production.ts";
import { DetailedWaveform } from "./20261127091500_detailed-waveform.ts";
import { SourceOfRecord } from "./20261127092500_source-of-record.ts";

/** Every migration in order: an explicit list, so that start-up, tests and review see the same thing. */
export const migrations = [
  { name: "20261123064412_first-tables", class: FirstTables },
  { name: "20261123072521_sharing-and-quotas", class: SharingAndQuotas },
  { name: "20261123072600_record-library", class: RecordLibrary },
  { name: "20261123072629_rate-limit", class: RateLimit },
  { name: "20261123074400_token-scopes", class: TokenScopes },
  { name: "20261123085500_no-request-bytes", class: NoRequestBytes },
  { name: "20261126201500_left-out-bytes", class: LeftOutBytes },
  { name: "20261126214632_registration", class: Registration },
  { name: "20261126223000_least-privilege", class: LeastPrivilege },
  { name: "20261127035000_true-levels", class: TrueLevels },
  { name: "20261127045000_quota-state", class: QuotaState },
  { name: "20261127045411_upload-tickets", class: UploadTickets },
  { name: "20261127050550_identities", class: Identities },
  { name: "20261127051500_renewed-tokens", class: RenewedTokens },
  { name: "20261127083000_token-at-the-end", class: TokenAtTheEnd },
  { name: "20261127083500_play-keys", class: PlayKeys },
  { name: "20261127090000_chapters-and-production", class: ChaptersAndProduction },
  { name: "20261127091500_detailed-waveform", class: DetailedWaveform },
  { name: "20261127092500_source-of-record", class: SourceOfRecord },
];
