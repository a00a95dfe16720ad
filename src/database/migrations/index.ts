import { FirstTables } from "./20261123064412_first-tables.ts";

/** Every migration in order: an explicit list, so that start-up, tests and review see the same thing. */
export const migrations = [{ name: "20261123064412_first-tables", class: FirstTables }];
