import { Arg, Ctx, FieldResolver, ID, Mutation, Resolver, Root } from "type-graphql";
import type { Quality } from "../audio/mp3/quality.ts";
import { batchLoader } from "../graphql/batch-loader.ts";
import { Facts, type FieldFacts } from "../graphql/field-facts.ts";
import type { RequestContext } from "../graphql/request-context.ts";
import { requireSelf } from "../graphql/require-self.ts";
import { GraphQLDateTime, GraphQLSafeInt } from "../graphql/scalars.ts";
import { chargeOf, type WriteAllowances } from "../limits/write-allowance.ts";
import { maxTitleLength } from "../record/record-title.ts";
import { QualityEnum, VisibilityEnum } from "../record/record.type.ts";
import type { Visibility } from "../settings/visibility.ts";
import { toUserType, UserType } from "../user/user.type.ts";
import { CreateUploadTicketPayload, RevokeUploadTicketPayload, UploadTicketType } from "./upload-ticket.type.ts";
import {
  createUploadTicket,
  findUploadTickets,
  maxTickets,
  revokeUploadTicket,
  type TicketDescription,
} from "./upload-tickets.ts";

const uploading: FieldFacts = { answersTo: async (_args, context) => await context.caller("UPLOAD") };

/** Tickets, with which somebody without a token uploads once. */
@Resolver(() => UserType)
export class UploadTicketResolver {
  readonly #allowances: WriteAllowances;
  readonly #ticketsOf: (context: RequestContext, userId: number) => Promise<readonly TicketDescription[] | undefined>;

  constructor(allowances: WriteAllowances) {
    this.#allowances = allowances;
    this.#ticketsOf = batchLoader(async ({ em }, userIds: readonly number[]) => await findUploadTickets(em(), userIds));
  }

  @FieldResolver(() => [UploadTicketType], {
    nullable: true,
    description:
      "The user's own upload tickets that can still be used, newest first. Null only if an error occurred. Needs the scope READ.",
  })
  @Facts({ ownerOnly: "READ", listLength: () => maxTickets })
  async uploadTickets(@Root() user: UserType, @Ctx() context: RequestContext): Promise<readonly UploadTicketType[]> {
    await requireSelf(context, user.id, "READ");
    return (await this.#ticketsOf(context, Number(user.id))) ?? [];
  }

  @Mutation(() => CreateUploadTicketPayload, {
    nullable: true,
    description:
      "Creates a ticket: a secret with which somebody without a token, such as a visitor of a web page or a device, " +
      "uploads one recording into the caller's library. Send it as the argument `ticket` of `uploadRecord` or " +
      "`startUpload`. The upload counts against the caller's quota and limits. The ticket is revoked with the caller's " +
      "token, and expires no later than that token. A user has " +
      `at most ${maxTickets} tickets that can be used. Needs the scope UPLOAD.`,
  })
  @Facts(uploading)
  async createUploadTicket(
    @Arg("title", () => String, {
      nullable: true,
      description: `Title of the recording: 1 to ${maxTitleLength} characters, without control characters. If omitted, the upload may give one.`,
    })
    title: string | null,
    @Arg("quality", () => QualityEnum, {
      nullable: true,
      description: "Quality of the MP3. If omitted, the upload may choose one.",
    })
    quality: Quality | null,
    @Arg("visibility", () => VisibilityEnum, {
      nullable: true,
      description: "Who can open the recording by its `url`. If omitted, the upload may choose.",
    })
    visibility: Visibility | null,
    @Arg("maxBytes", () => GraphQLSafeInt, {
      nullable: true,
      description: "Maximum size of the file, in bytes. If omitted, that of the service.",
    })
    maxBytes: number | null,
    @Arg("expiresAt", () => GraphQLDateTime, {
      nullable: true,
      description: "When the ticket expires, at most 31 days from now; by default in 24 hours.",
    })
    expiresAt: Date | null,
    @Ctx() context: RequestContext,
  ): Promise<CreateUploadTicketPayload> {
    const caller = await context.caller("UPLOAD");
    const request = {
      title: title ?? undefined,
      quality: quality ?? undefined,
      visibility: visibility ?? undefined,
      maxBytes: maxBytes ?? undefined,
      expiresAt: expiresAt ?? undefined,
    };
    const charge = chargeOf(this.#allowances, caller, context.clientAddress);
    const ticket = await createUploadTicket(context.em(), caller, request, charge);
    return { ticket: ticket.secret, ticketId: ticket.id, expiresAt: ticket.expiresAt, user: toUserType(caller) };
  }

  @Mutation(() => RevokeUploadTicketPayload, {
    nullable: true,
    description:
      "Revokes a ticket of the caller. An upload that is running with it fails when it ends; a recording that was " +
      "uploaded with it stays. Fails with NOT_FOUND if no ticket of the caller has this id. Needs the scope WRITE, or the " +
      "token with UPLOAD that created the ticket.",
  })
  @Facts(uploading)
  async revokeUploadTicket(
    @Arg("id", () => ID, { description: "The ticket's id, `ticketId`. It is not the secret." }) id: string,
    @Ctx() context: RequestContext,
  ): Promise<RevokeUploadTicketPayload> {
    const caller = await context.caller("UPLOAD");
    await revokeUploadTicket(context.em(), caller, id);
    return { revokedId: id.toLowerCase(), user: toUserType(caller) };
  }
}
