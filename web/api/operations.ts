/** Internal type. DO NOT USE DIRECTLY. */
type Exact<T extends { [key: string]: unknown }> = { [K in keyof T]: T[K] };
/** Internal type. DO NOT USE DIRECTLY. */
export type Incremental<T> = T | { [P in keyof T]?: P extends ' $fragmentName' | '__typename' ? T[P] : never };
import type { DocumentTypeDecoration } from '@graphql-typed-document-node/core';
/** Sort key of recordings. Ties are sorted by id. */
export type RecordOrderField =
  /** When the upload began. */
  | 'CREATED_AT'
  /** The duration. */
  | 'DURATION'
  /** The size of the MP3. */
  | 'SIZE'
  /** The title, ignoring case and accents. */
  | 'TITLE';

/** A finding of the conversion that did not prevent the recording from being stored. */
export type RecordWarning =
  /** Several consecutive samples of one channel are at full scale: the recording level was probably too high. Floating-point samples over full scale are not clipped. */
  | 'CLIPPED'
  /** The WAV is shorter than its header says. The MP3 has what arrived. If you have the complete file, send it again. */
  | 'CUT_SHORT'
  /** Some blocks of the coded sound are damaged. They were left out, so the MP3 is shorter. */
  | 'DAMAGED'
  /** The WAV has more than two channels. They were mixed to stereo by their positions; channels without a position are in the centre. */
  | 'MIXED_DOWN'
  /** MP3 does not support the WAV's sample rate, so the sound was converted to one that it supports. */
  | 'RESAMPLED'
  /** The floating-point samples had the range of integers (such as -32768 to 32767 instead of -1 to 1). They were scaled to -1 to 1. */
  | 'RESCALED'
  /** There is no sound: only silence, or dither of 16 bits (of 24 bits if the samples have more than 16). */
  | 'SILENT'
  /** A second WAV of a different format follows the first one. It was left out; `source.leftOutBytes` is its size. */
  | 'SOUND_LEFT_OUT'
  /** Bytes that are neither sound nor a WAV chunk follow the sound. They were left out; `source.leftOutBytes` is their number. */
  | 'TRAILING_JUNK';

/** Who can create a user with `createUser`. */
export type Registration =
  /** Nobody: the operator creates the users. */
  | 'CLOSED'
  /** Anyone who has an invitation from the operator. */
  | 'INVITE'
  /** Anyone. */
  | 'OPEN';

/** Who can open a recording by its `url`. */
export type Visibility =
  /** Only the owner: without the owner's Bearer token the link answers 404. Share links from `createLink` still work. */
  | 'PRIVATE'
  /** Anyone who has the link. */
  | 'PUBLIC';

export type RowFragment = { id: string, title: string, createdAt: string, durationSeconds: number, visibility: Visibility, streamUrl: string, listenUrl: string, url: string, peaks: Array<number> | null, warnings: Array<RecordWarning>, loudness: { integratedLufs: number } | null };

export type LinkFragment = { id: string, listenUrl: string, note: string | null, expiresAt: string | null, downloads: number };

export type MeQueryVariables = Exact<{ [key: string]: never; }>;


export type MeQuery = { me: { id: string, name: string } };

export type LibraryQueryVariables = Exact<{
  first: number;
  after?: string | null | undefined;
  text?: string | null | undefined;
  field: RecordOrderField;
}>;


export type LibraryQuery = { me: { id: string, records: { totalCount: number | null, nodes: Array<{ id: string, title: string, createdAt: string, durationSeconds: number, visibility: Visibility, streamUrl: string, listenUrl: string, url: string, peaks: Array<number> | null, warnings: Array<RecordWarning>, loudness: { integratedLufs: number } | null }>, pageInfo: { hasNextPage: boolean, endCursor: string | null } } | null } };

export type AccountQueryVariables = Exact<{ [key: string]: never; }>;


export type AccountQuery = { me: { id: string, name: string, usage: { bytes: number, seconds: number, records: number, limits: { bytes: number | null, seconds: number | null, records: number | null } } | null } };

export type DevicesQueryVariables = Exact<{ [key: string]: never; }>;


export type DevicesQuery = { me: { id: string, tokens: Array<{ id: string, name: string, createdAt: string, lastUsedAt: string | null, expiresAt: string | null, parentId: string | null }> | null } };

export type LinksQueryVariables = Exact<{
  id: string | number;
}>;


export type LinksQuery = { record: { id: string, links: Array<{ id: string, listenUrl: string, note: string | null, expiresAt: string | null, downloads: number }> | null } | null };

export type SignUpMutationVariables = Exact<{
  name: string;
  invite?: string | null | undefined;
}>;


export type SignUpMutation = { createUser: { token: string, user: { id: string, name: string } } | null };

export type RenameUserMutationVariables = Exact<{
  name: string;
}>;


export type RenameUserMutation = { updateUser: { user: { id: string, name: string } } | null };

export type StartUploadMutationVariables = Exact<{
  fileName: string;
  idempotencyKey: string;
  sizeBytes?: number | null | undefined;
}>;


export type StartUploadMutation = { startUpload: { upload: { id: string, url: string | null, offset: number, recording: { id: string, title: string, createdAt: string, durationSeconds: number, visibility: Visibility, streamUrl: string, listenUrl: string, url: string, peaks: Array<number> | null, warnings: Array<RecordWarning>, loudness: { integratedLufs: number } | null } | null, failure: { code: string, message: string } | null } } | null };

export type RecordingQueryVariables = Exact<{
  id: string | number;
}>;


export type RecordingQuery = { record: { id: string, title: string, createdAt: string, durationSeconds: number, visibility: Visibility, streamUrl: string, listenUrl: string, url: string, peaks: Array<number> | null, warnings: Array<RecordWarning>, loudness: { integratedLufs: number } | null } | null };

export type ChangeMutationVariables = Exact<{
  id: string | number;
  title?: string | null | undefined;
  visibility?: Visibility | null | undefined;
}>;


export type ChangeMutation = { updateRecord: { record: { id: string, title: string, createdAt: string, durationSeconds: number, visibility: Visibility, streamUrl: string, listenUrl: string, url: string, peaks: Array<number> | null, warnings: Array<RecordWarning>, loudness: { integratedLufs: number } | null } } | null };

export type DeleteMutationVariables = Exact<{
  ids: Array<string | number> | string | number;
}>;


export type DeleteMutation = { deleteRecords: { deletedIds: Array<string> } | null };

export type CreateLinkMutationVariables = Exact<{
  recordId: string | number;
  note?: string | null | undefined;
  expiresAt?: string | null | undefined;
}>;


export type CreateLinkMutation = { createLink: { link: { id: string, listenUrl: string, note: string | null, expiresAt: string | null, downloads: number } } | null };

export type RevokeLinkMutationVariables = Exact<{
  id: string | number;
}>;


export type RevokeLinkMutation = { revokeLink: { revokedId: string } | null };

export type AddDeviceMutationVariables = Exact<{
  name: string;
}>;


export type AddDeviceMutation = { createToken: { token: string, accessToken: { id: string } } | null };

export type RevokeDeviceMutationVariables = Exact<{
  id: string | number;
}>;


export type RevokeDeviceMutation = { revokeToken: { revokedId: string } | null };

export type PlayUrlQueryVariables = Exact<{
  id: string | number;
}>;


export type PlayUrlQuery = { record: { id: string, playUrl: string | null } | null };

export type ServiceQueryVariables = Exact<{ [key: string]: never; }>;


export type ServiceQuery = { service: { maxUploadBytes: number, maxDurationSeconds: number, visibility: Visibility, registration: Registration } };

export interface TypedDocumentString<TResult, TVariables> extends DocumentTypeDecoration<TResult, TVariables> {
  toString(): string;
}
export const RowFragmentDoc = `fragment Row on Recording { id title createdAt durationSeconds visibility streamUrl listenUrl url peaks(count: 200) loudness { integratedLufs } warnings }` as unknown as TypedDocumentString<RowFragment, unknown>;
export const LinkFragmentDoc = `fragment Link on ShareLink { id listenUrl note expiresAt downloads }` as unknown as TypedDocumentString<LinkFragment, unknown>;
export const MeDocument = `query Me { me { id name } }` as unknown as TypedDocumentString<MeQuery, MeQueryVariables>;
export const LibraryDocument = `query Library($first: Int!, $after: String, $text: String, $field: RecordOrderField!) { me { id records( first: $first after: $after filter: {text: $text} orderBy: {field: $field} ) { totalCount nodes { ...Row } pageInfo { hasNextPage endCursor } } } } fragment Row on Recording { id title createdAt durationSeconds visibility streamUrl listenUrl url peaks(count: 200) loudness { integratedLufs } warnings }` as unknown as TypedDocumentString<LibraryQuery, LibraryQueryVariables>;
export const AccountDocument = `query Account { me { id name usage { bytes seconds records limits { bytes seconds records } } } }` as unknown as TypedDocumentString<AccountQuery, AccountQueryVariables>;
export const DevicesDocument = `query Devices { me { id tokens { id name createdAt lastUsedAt expiresAt parentId } } }` as unknown as TypedDocumentString<DevicesQuery, DevicesQueryVariables>;
export const LinksDocument = `query Links($id: ID!) { record(id: $id) { id links { ...Link } } } fragment Link on ShareLink { id listenUrl note expiresAt downloads }` as unknown as TypedDocumentString<LinksQuery, LinksQueryVariables>;
export const SignUpDocument = `mutation SignUp($name: String!, $invite: String) { createUser(name: $name, invite: $invite) { user { id name } token } }` as unknown as TypedDocumentString<SignUpMutation, SignUpMutationVariables>;
export const RenameUserDocument = `mutation RenameUser($name: String!) { updateUser(name: $name) { user { id name } } }` as unknown as TypedDocumentString<RenameUserMutation, RenameUserMutationVariables>;
export const StartUploadDocument = `mutation StartUpload($fileName: String!, $idempotencyKey: UUID!, $sizeBytes: SafeInt) { startUpload( fileName: $fileName idempotencyKey: $idempotencyKey sizeBytes: $sizeBytes ) { upload { id url offset recording { ...Row } failure { code message } } } } fragment Row on Recording { id title createdAt durationSeconds visibility streamUrl listenUrl url peaks(count: 200) loudness { integratedLufs } warnings }` as unknown as TypedDocumentString<StartUploadMutation, StartUploadMutationVariables>;
export const RecordingDocument = `query Recording($id: ID!) { record(id: $id) { ...Row } } fragment Row on Recording { id title createdAt durationSeconds visibility streamUrl listenUrl url peaks(count: 200) loudness { integratedLufs } warnings }` as unknown as TypedDocumentString<RecordingQuery, RecordingQueryVariables>;
export const ChangeDocument = `mutation Change($id: ID!, $title: String, $visibility: Visibility) { updateRecord(id: $id, title: $title, visibility: $visibility) { record { ...Row } } } fragment Row on Recording { id title createdAt durationSeconds visibility streamUrl listenUrl url peaks(count: 200) loudness { integratedLufs } warnings }` as unknown as TypedDocumentString<ChangeMutation, ChangeMutationVariables>;
export const DeleteDocument = `mutation Delete($ids: [ID!]!) { deleteRecords(ids: $ids) { deletedIds } }` as unknown as TypedDocumentString<DeleteMutation, DeleteMutationVariables>;
export const CreateLinkDocument = `mutation CreateLink($recordId: ID!, $note: String, $expiresAt: DateTime) { createLink(recordId: $recordId, note: $note, expiresAt: $expiresAt) { link { ...Link } } } fragment Link on ShareLink { id listenUrl note expiresAt downloads }` as unknown as TypedDocumentString<CreateLinkMutation, CreateLinkMutationVariables>;
export const RevokeLinkDocument = `mutation RevokeLink($id: ID!) { revokeLink(id: $id) { revokedId } }` as unknown as TypedDocumentString<RevokeLinkMutation, RevokeLinkMutationVariables>;
export const AddDeviceDocument = `mutation AddDevice($name: String!) { createToken(name: $name, scopes: [READ, WRITE]) { token accessToken { id } } }` as unknown as TypedDocumentString<AddDeviceMutation, AddDeviceMutationVariables>;
export const RevokeDeviceDocument = `mutation RevokeDevice($id: ID!) { revokeToken(id: $id) { revokedId } }` as unknown as TypedDocumentString<RevokeDeviceMutation, RevokeDeviceMutationVariables>;
export const PlayUrlDocument = `query PlayUrl($id: ID!) { record(id: $id) { id playUrl } }` as unknown as TypedDocumentString<PlayUrlQuery, PlayUrlQueryVariables>;
export const ServiceDocument = `query Service { service { maxUploadBytes maxDurationSeconds visibility registration } }` as unknown as TypedDocumentString<ServiceQuery, ServiceQueryVariables>;