/** Who may create users: anyone, anyone with an invitation, or only the operator. */
export const registrationModes = ["open", "invite", "closed"] as const;
export type RegistrationMode = (typeof registrationModes)[number];
