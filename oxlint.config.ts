import { defineConfig, type OxlintOverride } from "oxlint";

/** The rooms of `src` from the top down: a file imports from its own room and from rooms on lower floors. */
const floors = [
  ["web"],
  ["upload", "link", "library"],
  ["record"],
  ["user"],
  ["graphql"],
  ["http"],
  ["telemetry"],
  ["settings"],
  ["audio", "limits", "multipart"],
  ["database"],
  ["addresses", "caller", "input", "memory", "queue"],
  ["errors"],
];

/** The files of `src` itself: they name what is in the rooms, so no room needs to know them. */
const composition = [
  "**/{main,migrate-command,user-command,store-command,operator-command,server,schema,emit-schema,node.resolver,service.resolver,orm-options}.ts",
  "**/migrations/**",
];

/** Lower rooms that a room has nothing to do with. */
const apart: Readonly<Record<string, readonly string[]>> = {
  web: ["graphql", "audio", "database", "limits", "multipart"],
  upload: ["multipart"],
  library: ["http", "audio", "multipart"],
  user: ["http", "audio", "multipart"],
  graphql: ["audio", "database", "limits"],
  http: ["audio", "database", "limits", "multipart"],
  audio: ["database"],
  multipart: ["database"],
};

/** Rooms inside `audio`, and those that each has nothing to do with. */
const audioRooms: Readonly<Record<string, readonly string[]>> = {
  wav: ["meter", "encoder", "mp3"],
  meter: ["wav", "encoder", "mp3"],
  encoder: ["wav", "meter"],
  mp3: ["wav", "meter", "encoder"],
};

const graphqlPackages = ["graphql", "type-graphql", "graphql-scalars", "@apollo"];
const fastifyPackages = ["fastify", "@fastify"];
const databasePackages = ["pg", "@mikro-orm", "kysely"];
const frameworks = [...graphqlPackages, ...fastifyPackages, ...databasePackages];

/** Packages and modules of Node that a room has nothing to do with. */
const strangers: Readonly<Record<string, RegExp>> = {
  http: named(graphqlPackages, databasePackages),
  telemetry: named(frameworks),
  settings: named(frameworks),
  audio: named(frameworks),
  database: named(graphqlPackages, fastifyPackages),
  limits: named(graphqlPackages, fastifyPackages),
  multipart: /^(?:[^.n]|node:[^b])/, // of all packages and modules it may use node:buffer
  caller: /^(?:[^.n]|node:[^c])/, // node:crypto
  input: /^[^.]/,
  memory: /^[^.]/,
  queue: /^[^.]/,
  errors: /^[^.]/,
};

/** Rooms of features. Only files of some roles use the framework that calls them. */
const features = new Set(["web", "upload", "link", "library", "record", "user"]);

function named(...packages: readonly (readonly string[])[]): RegExp {
  return new RegExp(`^(?:${packages.flat().join("|")})(?:/|$)`);
}

function restricted(files: string, rooms: readonly string[], packages: RegExp | undefined): OxlintOverride {
  const group = [...composition, ...rooms.map((room) => `**/${room}/**`)];
  const patterns = [{ group }, ...(packages ? [{ regex: packages.source }] : [])];
  return { files: [files], rules: { "no-restricted-imports": ["error", { patterns }] } };
}

const restrictions = floors.flatMap((floor, index) =>
  floor.flatMap((room) => {
    const upToHere = floors.slice(0, index + 1).flat();
    const others = [...upToHere.filter((other) => other !== room), ...(apart[room] ?? [])];
    if (room === "audio") {
      return [
        restricted("src/audio/*.ts", others, strangers.audio),
        ...Object.entries(audioRooms).map(([inner, not]) =>
          restricted(`src/audio/${inner}/**`, [...others, ...not], strangers.audio),
        ),
      ];
    }
    if (!features.has(room)) return [restricted(`src/${room}/**`, others, strangers[room])];
    return [
      restricted(`src/${room}/**`, others, named(graphqlPackages, fastifyPackages)),
      restricted(`src/${room}/*.{resolver,type}.ts`, [...others, "http", "database"], named(fastifyPackages)),
      restricted(`src/${room}/*.route.ts`, [...others, "database"], named(graphqlPackages)),
    ];
  }),
);

export default defineConfig({
  plugins: ["typescript", "import", "unicorn", "oxc", "promise", "jest"],
  options: { typeAware: true },
  categories: { correctness: "error", suspicious: "error" },
  rules: {
    "import/no-cycle": "error",
    "typescript/no-floating-promises": "error",
    "typescript/no-explicit-any": "error",
    "typescript/return-await": ["error", "error-handling-correctness-only"],
    "import/no-unassigned-import": ["error", { allow: ["reflect-metadata"] }],
    "unicorn/consistent-function-scoping": "off",
    "no-shadow": "off",
    "no-underscore-dangle": "off",
  },
  overrides: [
    {
      files: ["test/**", "acceptance/**", "bench/**"],
      rules: { "typescript/no-unsafe-type-assertion": "off", "typescript/no-explicit-any": "off" },
    },
    {
      // The suite sees the service from outside only. The runner of node:test waits for what its functions return.
      files: ["acceptance/**"],
      plugins: ["typescript", "import", "unicorn", "oxc", "promise"],
      rules: {
        "no-restricted-imports": ["error", { patterns: [{ regex: "^(?:\\.\\.|[^.n])" }] }],
        "typescript/no-floating-promises": [
          "error",
          { allowForKnownSafeCalls: [{ from: "package", name: ["describe", "it"], package: "node:test" }] },
        ],
      },
    },
    {
      // The page and the service share nothing but the API.
      files: ["web/**"],
      plugins: ["typescript", "import", "unicorn", "oxc", "promise", "jsx-a11y"],
      rules: {
        "no-restricted-imports": ["error", { patterns: [{ group: ["**/src/**", "node:*"] }] }],
        "import/no-unassigned-import": "off",
        "import/default": "off", // the build makes those of workers and pictures
        // The API, the browser's stores and its older objects are typed where they are read.
        "typescript/no-unsafe-type-assertion": "off",
      },
    },
    { files: ["web/generate-operations.ts"], rules: { "no-restricted-imports": "off" } },
    ...restrictions,
  ],
  ignorePatterns: ["dist", "node_modules", "data", "web/api/operations.ts"],
});
