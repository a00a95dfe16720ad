/** Who can open a recording by its plain link: anyone who has it, or only the owner. */
export type Visibility = (typeof visibilities)[number];

export const visibilities = ["PUBLIC", "PRIVATE"] as const;
