/** Who may read a recording by its plain link: whoever has the link, or its owner only. */
export type Visibility = (typeof visibilities)[number];

export const visibilities = ["PUBLIC", "PRIVATE"] as const;
