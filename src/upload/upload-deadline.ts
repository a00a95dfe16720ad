import { counted, ServiceError } from "../errors/errors.ts";

/** A signal that is aborted after `maxSeconds`, unless it is disposed of earlier. */
export function deadlineAfter(maxSeconds: number): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const timer = setTimeout(() => {
    const message = `The upload took longer than ${counted(maxSeconds, "second")}.`;
    controller.abort(new ServiceError("CONVERSION_TIMEOUT", message, { maxSeconds }));
  }, maxSeconds * 1000);
  return { signal: controller.signal, [Symbol.dispose]: () => clearTimeout(timer) };
}
