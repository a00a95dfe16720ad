import {
  defaultFieldResolver,
  getNamedType,
  getNullableType,
  isCompositeType,
  isListType,
  isObjectType,
  type GraphQLOutputType,
  type GraphQLSchema,
} from "graphql";
import { setImmediate } from "node:timers/promises";
import type { RequestContext } from "./request-context.ts";

/** How long answers may be worked on before everything else gets a turn of the event loop, in milliseconds. */
const turnMs = 5;

// There is one event loop, which all answers share.
let first: Waiting | undefined;
let last: Waiting | undefined;
let isUnderWay = false;
let turnEndsAt: number | undefined;

/** An entry of a linked list: removing the first of many thousands from an array would copy the rest. */
interface Waiting {
  readonly goOn: () => void;
  next?: Waiting;
}

/** How many objects of a request wait for their turn. */
const waitingOf = new WeakMap<RequestContext, number>();

/**
 * Waits until everything that was begun before has done what it can do at once, and, if answers have had their time in
 * this turn of the event loop, for the next one.
 */
export async function turn(context?: RequestContext): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const waiting: Waiting = { goOn: resolve };
  if (last) last.next = waiting;
  else first = waiting;
  last = waiting;
  if (!isUnderWay) process.nextTick(letNextGoOn);
  isUnderWay = true;
  if (context) waitingOf.set(context, (waitingOf.get(context) ?? 0) + 1);
  await promise;
  if (context) waitingOf.set(context, waitingOf.get(context)! - 1);
}

/** Waits until nothing of a request waits for its turn. */
export async function turnsTaken(context: RequestContext): Promise<void> {
  do await setImmediate();
  while (waitingOf.get(context));
}

/**
 * Makes every list of objects a list in turns: the fields of an object are resolved after those of the one before, and
 * as soon as answers have had their time, in the next turn of the event loop.
 */
export function resolveListsInTurns(schema: GraphQLSchema): void {
  const types = Object.values(schema.getTypeMap()).filter((type) => isObjectType(type));
  for (const field of types.flatMap((type) => (type.name.startsWith("__") ? [] : Object.values(type.getFields())))) {
    if (!isListOfObjects(field.type)) continue;
    const { resolve = defaultFieldResolver } = field;
    field.resolve = (parent, args, context: RequestContext, info) => {
      const items: unknown = resolve(parent, args, context, info);
      return items instanceof Promise ? items.then((all) => inTurns(all, context)) : inTurns(items, context);
    };
  }
}

function isListOfObjects(type: GraphQLOutputType): boolean {
  return isListType(getNullableType(type)) && isCompositeType(getNamedType(type));
}

function inTurns(items: unknown, context: RequestContext): unknown {
  return Array.isArray(items) ? items.map(async (item: unknown) => await turn(context).then(() => item)) : items;
}

function letNextGoOn(): void {
  isUnderWay = first !== undefined;
  if (!first) return;
  if (!hasTime()) {
    void setImmediate().then(letNextGoOn);
    return;
  }
  const { goOn, next } = first;
  first = next;
  if (!next) last = undefined;
  goOn();
  // A tick that a microtask asks for comes after all microtasks: when all that follows at once is done.
  queueMicrotask(() => process.nextTick(letNextGoOn));
}

function hasTime(): boolean {
  const now = performance.now();
  if (turnEndsAt === undefined) {
    turnEndsAt = now + turnMs;
    void setImmediate().then(() => (turnEndsAt = undefined));
  }
  return now < turnEndsAt;
}
