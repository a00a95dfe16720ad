interface Policy {
  createScriptURL(url: string): string;
}

interface PolicyFactory {
  createPolicy(name: string, rules: Policy): Policy;
}

/** The page's one Trusted Types policy: only files beside this one may become workers. */
const rules: Policy = {
  createScriptURL: (url) => {
    const { origin, pathname } = new URL(url, location.href);
    if (origin !== location.origin || !pathname.endsWith(".js")) throw new TypeError("This address is no worker.");
    return url;
  },
};

const { trustedTypes } = globalThis as { trustedTypes?: PolicyFactory };
const policy = trustedTypes?.createPolicy("app", rules) ?? rules;

/** Starts a worker from a file that the build has made. */
export function startWorker(url: string): Worker {
  return new Worker(policy.createScriptURL(url), { type: "module" });
}
