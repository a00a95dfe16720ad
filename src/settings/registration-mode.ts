/** Who may make a user: anybody, whoever has an invitation, or the operator only. */
export const registrationModes = ["open", "invite", "closed"] as const;
export type RegistrationMode = (typeof registrationModes)[number];
