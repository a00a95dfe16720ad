/** Where the bytes of an MP3 are: in rows of PostgreSQL, or in an object of S3. */
export type StoreName = (typeof storeNames)[number];

export const storeNames = ["postgres", "s3"] as const;
