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
import { afterThis, LoopTime } from "../queue/loop-time.ts";
import type { RequestContext } from "./request-context.ts";

// There is one event loop, which all answers share.
/** 5 ms of work on answers, and then everything else gets a turn of the event loop. */
const time = new LoopTime(5);
let first: Waiting | undefined;
let last: Waiting | undefined;
let isUnderWay = false;

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
  if (!time.isLeft) {
    void setImmediate().then(letNextGoOn);
    return;
  }
  const { goOn, next } = first;
  first = next;
  if (!next) last = undefined;
  goOn();
  afterThis(letNextGoOn);
}
