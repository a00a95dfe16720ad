import type { S3 } from "@aws-sdk/client-s3";

/** A bucket, and a way to open it with other settings. */
export interface ProbedBucket {
  readonly bucket: string;
  readonly open: (settings?: {
    readonly keys?: readonly [accessKey: string, secretKey: string];
    readonly systemClockOffset?: number;
  }) => S3;
}

/** What S3 answers to one thing that a client may try: `ok`, or a code and a status. */
export interface Probe {
  readonly what: string;
  readonly attempt: (s3: S3, bucket: string, probed: ProbedBucket) => Promise<unknown>;
  readonly answer: string;
  /** The answer of Ceph, if it is another. It may allow more, and never less. */
  readonly cephAnswer?: string;
}

const MiB = 1024 ** 2;
const nothing = "c0000000-0000-4000-8000-000000000000";

/** Uploads parts of these sizes in this order, and completes them with what `list` makes of them. */
async function inParts(
  s3: S3,
  bucket: string,
  sizes: readonly number[],
  {
    order = sizes.map((_, index) => index),
    list = (parts) => parts,
  }: { order?: readonly number[]; list?: (parts: NumberedPart[]) => NumberedPart[] } = {},
): Promise<void> {
  const target = { Bucket: bucket, Key: crypto.randomUUID() };
  const { UploadId } = await s3.createMultipartUpload(target);
  try {
    const parts: NumberedPart[] = [];
    for (const index of order) {
      const bytes = Buffer.alloc(sizes[index]!, index);
      const { ETag = "" } = await s3.uploadPart({ ...target, UploadId, PartNumber: index + 1, Body: bytes });
      parts.push({ PartNumber: index + 1, ETag });
    }
    const sorted = list(parts.toSorted((a, b) => a.PartNumber - b.PartNumber));
    await s3.completeMultipartUpload({ ...target, UploadId, MultipartUpload: { Parts: sorted } });
  } catch (error) {
    await s3.abortMultipartUpload({ ...target, UploadId });
    throw error;
  }
}

interface NumberedPart {
  readonly PartNumber: number;
  readonly ETag: string;
}

export const probes: readonly Probe[] = [
  {
    what: "a wrong secret",
    attempt: async (_, bucket, { open }) =>
      await open({ keys: ["musickey", "wrong"] }).listObjectsV2({ Bucket: bucket }),
    answer: "SignatureDoesNotMatch 403",
  },
  {
    what: "an unknown access key",
    attempt: async (_, bucket, { open }) => await open({ keys: ["nobody", "x"] }).listObjectsV2({ Bucket: bucket }),
    answer: "InvalidAccessKeyId 403",
  },
  {
    what: "a clock that is wrong by 20 minutes",
    attempt: async (_, bucket, { open }) =>
      await open({ systemClockOffset: 20 * 60_000 }).listObjectsV2({ Bucket: bucket }),
    answer: "RequestTimeTooSkewed 403",
  },
  {
    what: "an unknown bucket",
    attempt: async (s3) => await s3.listObjectsV2({ Bucket: "no-such-bucket" }),
    answer: "NoSuchBucket 404",
  },
  {
    what: "a write to an unknown bucket",
    attempt: async (s3) => await s3.putObject({ Bucket: "no-such-bucket", Key: "a", Body: "a" }),
    answer: "NoSuchBucket 404",
  },
  {
    what: "reading what is not there",
    attempt: async (s3, bucket) => await s3.getObject({ Bucket: bucket, Key: nothing }),
    answer: "NoSuchKey 404",
  },
  {
    what: "the head of what is not there",
    attempt: async (s3, bucket) => await s3.headObject({ Bucket: bucket, Key: nothing }),
    answer: "NotFound 404",
  },
  {
    what: "a range beyond the end",
    attempt: async (s3, bucket) => {
      await s3.putObject({ Bucket: bucket, Key: "ten", Body: "0123456789" });
      await s3.getObject({ Bucket: bucket, Key: "ten", Range: "bytes=10-19" });
    },
    answer: "InvalidRange 416",
  },
  {
    what: "deleting what is not there",
    attempt: async (s3, bucket) => await s3.deleteObject({ Bucket: bucket, Key: nothing }),
    answer: "ok",
  },
  {
    what: "an empty object",
    attempt: async (s3, bucket) => await s3.putObject({ Bucket: bucket, Key: "empty", Body: Buffer.alloc(0) }),
    answer: "ok",
  },
  {
    what: "equal parts, the first one sent last",
    attempt: async (s3, bucket) => await inParts(s3, bucket, [5 * MiB, 5 * MiB, 1], { order: [1, 2, 0] }),
    answer: "ok",
  },
  {
    what: "one small part",
    attempt: async (s3, bucket) => await inParts(s3, bucket, [1]),
    answer: "ok",
  },
  {
    what: "a part of less than 5 MiB that is not the last",
    attempt: async (s3, bucket) => await inParts(s3, bucket, [5 * MiB - 1, 1]),
    answer: "EntityTooSmall 400",
  },
  {
    what: "parts of different sizes",
    attempt: async (s3, bucket) => await inParts(s3, bucket, [5 * MiB, 6 * MiB, 1]),
    answer: "InvalidPart 400",
    cephAnswer: "ok",
  },
  {
    what: "parts that are named in another order",
    attempt: async (s3, bucket) => await inParts(s3, bucket, [5 * MiB, 1], { list: (parts) => parts.toReversed() }),
    answer: "InvalidPartOrder 400",
    cephAnswer: "ok",
  },
  {
    what: "a number of a part that is left out",
    attempt: async (s3, bucket) => await inParts(s3, bucket, [5 * MiB, 5 * MiB, 1], { order: [1, 2] }),
    answer: "InvalidPart 400",
    cephAnswer: "ok",
  },
  {
    what: "a part that was sent and is not named",
    attempt: async (s3, bucket) => await inParts(s3, bucket, [5 * MiB, 5 * MiB], { list: ([first]) => [first!] }),
    answer: "InvalidPart 400",
  },
  {
    what: "a part that is named and was not sent",
    attempt: async (s3, bucket) =>
      await inParts(s3, bucket, [5 * MiB], { list: ([first]) => [first!, { ...first!, PartNumber: 2 }] }),
    answer: "InvalidPart 400",
  },
  {
    what: "a part with another hash",
    attempt: async (s3, bucket) =>
      await inParts(s3, bucket, [5 * MiB, 1], { list: ([first]) => [first!, { ...first!, PartNumber: 2 }] }),
    answer: "InvalidPart 400",
  },
  {
    what: "no parts",
    attempt: async (s3, bucket) => await inParts(s3, bucket, [1], { list: () => [] }),
    answer: "MalformedXML 400",
  },
  {
    what: "the number 10,001 for a part",
    attempt: async (s3, bucket) => {
      const target = { Bucket: bucket, Key: "far" };
      const { UploadId } = await s3.createMultipartUpload(target);
      await s3
        .uploadPart({ ...target, UploadId, PartNumber: 10_001, Body: "a" })
        .finally(async () => await s3.abortMultipartUpload({ ...target, UploadId }));
    },
    answer: "InvalidArgument 400",
    cephAnswer: "ok",
  },
  {
    what: "a part of an unknown upload",
    attempt: async (s3, bucket) =>
      await s3.uploadPart({ Bucket: bucket, Key: "a", UploadId: nothing, PartNumber: 1, Body: "a" }),
    answer: "NoSuchUpload 404",
  },
  {
    what: "completing an unknown upload",
    attempt: async (s3, bucket) =>
      await s3.completeMultipartUpload({
        Bucket: bucket,
        Key: "a",
        UploadId: nothing,
        MultipartUpload: { Parts: [{ PartNumber: 1, ETag: '"0"' }] },
      }),
    answer: "NoSuchUpload 404",
    cephAnswer: "InternalError 500", // 16.2: "This multipart completion is already in progress"
  },
  {
    what: "ending an upload twice",
    attempt: async (s3, bucket) => {
      const target = { Bucket: bucket, Key: "twice" };
      const { UploadId } = await s3.createMultipartUpload(target);
      await s3.abortMultipartUpload({ ...target, UploadId });
      await s3.abortMultipartUpload({ ...target, UploadId });
    },
    answer: "NoSuchUpload 404",
  },
  {
    what: "reading an upload that is not complete",
    attempt: async (s3, bucket) => {
      const target = { Bucket: bucket, Key: "half" };
      const { UploadId } = await s3.createMultipartUpload(target);
      await s3.uploadPart({ ...target, UploadId, PartNumber: 1, Body: "a" });
      await s3.getObject(target).finally(async () => await s3.abortMultipartUpload({ ...target, UploadId }));
    },
    answer: "NoSuchKey 404",
  },
  {
    what: "deleting several objects at once",
    attempt: async (s3, bucket) => await s3.deleteObjects({ Bucket: bucket, Delete: { Objects: [{ Key: "ten" }] } }),
    answer: "NotImplemented 501",
    cephAnswer: "ok",
  },
];

/** The answer of an S3 to a probe. */
export async function answerTo({ attempt }: Probe, probed: ProbedBucket): Promise<string> {
  try {
    await attempt(probed.open(), probed.bucket, probed);
    return "ok";
  } catch (error) {
    const { name, $metadata } = error as { name: string; $metadata?: { httpStatusCode?: number } };
    return `${name} ${$metadata?.httpStatusCode}`;
  }
}
