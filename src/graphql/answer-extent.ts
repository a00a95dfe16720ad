import {
  getNamedType,
  getNullableType,
  isEnumType,
  isIntrospectionType,
  isLeafType,
  isListType,
  isObjectType,
  isScalarType,
  SchemaMetaFieldDef,
  type GraphQLLeafType,
  type GraphQLOutputType,
  type GraphQLSchema,
} from "graphql";
import { factsOf, type FieldFacts } from "./field-facts.ts";
import { queryLimits, tooComplex, type QueryLimits } from "./query-limits.ts";

/** What a member of an object, an object itself, and a value in a list take beside their characters (V8 of Node 24). */
const memberBytes = 64;
const objectBytes = 128;
const leafBytes = 32;

/** What `__schema` and one `__type` take at most. */
const schemaBytes = 4 * 1024 * 1024;
const typeBytes = 256 * 1024;

/** A character of JSON in UTF-16; in UTF-8 it has three at most, but then it counts twice here. */
const characterBytes = 2;

/** Maximum number of characters of a value in JSON, by scalar. Fields with texts and URLs declare their own. */
const scalarWidths: Readonly<Record<string, number>> = {
  Boolean: 5,
  DateTime: 26,
  Float: 24,
  ID: 38,
  Int: 11,
  NonNegativeFloat: 24,
  SafeInt: 17,
  UUID: 38,
};

/** What a field that will run adds to an answer. */
interface FieldExtent {
  /** Its name in the answer. */
  readonly key: string;
  /** The response key of the top-level field around it. */
  readonly root: string;
  readonly type: GraphQLOutputType;
  readonly facts: FieldFacts;
  /** The list around it, and how often it is given. */
  readonly around: { readonly list: string; readonly times: number };
  /** The same for its values: the list is its own if it is one. */
  readonly inside: { readonly list: string; readonly times: number };
}

/** The maximum size of a response, by list. */
export class AnswerExtent {
  readonly #origin: string;
  readonly #values = new Map<string, number>();
  readonly #characters = new Map<string, number>();
  /** By the operation's own fields, in their order. */
  readonly #bytes = new Map<string, number>();

  /** @param origin what the addresses in the answer begin with */
  constructor(origin: string) {
    this.#origin = origin;
  }

  /** The memory that the answer takes at most, made and as JSON. No JSON of it has more bytes in UTF-8. */
  get bytes(): number {
    return sumOf(this.#bytes);
  }

  add({ key, root, type, facts, around, inside }: FieldExtent): void {
    const named = getNamedType(type);
    const isLeaf = isLeafType(named);
    const width = isLeaf ? widthOf(named, facts, this.#origin) : 0;
    addTo(this.#characters, around.list, around.times * nameWidth(key));
    addTo(this.#values, inside.list, inside.times);
    addTo(this.#characters, inside.list, inside.times * width);
    // Each character of a text may be escaped, or be two units of UTF-16. Around a value stand quotes or brackets.
    const jsonWidth = Math.max(named.name === "String" ? 2 * width : width, "null".length) + 3;
    addTo(this.#bytes, root, around.times * (memberBytes + characterBytes * (nameWidth(key) + 2)));
    addTo(this.#bytes, root, inside.times * ((isLeaf ? leafBytes : objectBytes) + characterBytes * jsonWidth));
  }

  /** What asks for the schema. `query-limits.ts` bounds it: without aliases no answer is larger. */
  addIntrospection(root: string, name: string): void {
    addTo(this.#bytes, root, name === SchemaMetaFieldDef.name ? schemaBytes : typeBytes);
  }

  /** @throws {ServiceError} QUERY_TOO_COMPLEX */
  refuseTooMuch(): void {
    refuseTooMuch("maxValues", "values", this.#values);
    refuseTooMuch("maxCharacters", "characters", this.#characters);
  }

  /**
   * What is answered before a file is kept until it has arrived, which may take hours.
   * @throws {ServiceError} QUERY_TOO_COMPLEX
   */
  refuseTooMuchBefore(root: string): void {
    const [first = root] = this.#bytes.keys();
    let found = 0;
    for (const [name, bytes] of this.#bytes) {
      if (name === root) break;
      found += bytes;
    }
    if (found <= queryLimits.maxBytesBeforeFile) return;
    const sentence = `What is answered before a file has arrived may take ${queryLimits.maxBytesBeforeFile} bytes of memory, and can take ${found}: put \`${root}\` in front.`;
    throw tooComplex(sentence, "maxBytesBeforeFile", { found, field: first });
  }
}

/** A name and the four signs that JSON puts around it. */
function nameWidth(key: string): number {
  return key.length + 4;
}

function widthOf(type: GraphQLLeafType, { maxCharacters }: FieldFacts, origin: string): number {
  if (maxCharacters !== undefined) return type.name === "URL" ? origin.length + maxCharacters : maxCharacters;
  if (isEnumType(type)) return Math.max(...type.getValues().map(({ name }) => name.length)) + 2;
  return scalarWidths[type.name]!; // requireExtents has checked that it is there
}

/**
 * Checks that every field of the schema says how large it can be.
 * @throws {Error} that names the first one that does not
 */
export function requireExtents(schema: GraphQLSchema): void {
  for (const type of Object.values(schema.getTypeMap())) {
    if (!isObjectType(type) || isIntrospectionType(type)) continue;
    for (const field of Object.values(type.getFields())) {
      const facts = factsOf(field);
      const named = getNamedType(field.type);
      const lacksLength = isListType(getNullableType(field.type)) && !facts.listLength;
      const lacksWidth = isScalarType(named) && facts.maxCharacters === undefined && !(named.name in scalarWidths);
      if (!lacksLength && !lacksWidth) continue;
      const fact = lacksLength ? "listLength" : "maxCharacters";
      throw new Error(`Nothing limits the size of ${type.name}.${field.name}: declare it with @Facts({ ${fact} }).`);
    }
  }
}

function addTo(sums: Map<string, number>, list: string, more: number): void {
  sums.set(list, (sums.get(list) ?? 0) + more);
}

function sumOf(parts: ReadonlyMap<string, number>): number {
  return [...parts.values()].reduce((sum, part) => sum + part, 0);
}

function refuseTooMuch(limit: keyof QueryLimits, what: string, parts: ReadonlyMap<string, number>): void {
  const found = sumOf(parts);
  if (found <= queryLimits[limit]) return;
  const [field, most] = [...parts].reduce((a, b) => (b[1] > a[1] ? b : a));
  const sentence =
    `The response may have at most ${queryLimits[limit]} ${what}. With these arguments it can have ${found}, ` +
    `of which ${most} in ${field}. Ask for fewer in one request.`;
  throw tooComplex(sentence, limit, { found, field });
}
