/** A response of the API. */
export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly data: any;
  readonly errors: { message: string; extensions: Record<string, unknown>; path?: string[] }[] | undefined;
}

/** The user of a request. */
export interface Credentials {
  readonly id: string;
  readonly token: string;
}

/** A client of the API as apps use it: JSON for queries, multipart for files. */
export class ApiClient {
  readonly url: string;
  readonly #moreHeaders: () => Record<string, string>;

  /** @param moreHeaders what a proxy in front of the service adds to a request */
  constructor(url: string, moreHeaders: () => Record<string, string> = () => ({})) {
    this.url = url;
    this.#moreHeaders = moreHeaders;
  }

  /** Runs a GraphQL document. */
  async run(query: string, variables: object = {}, user?: Credentials): Promise<Answer> {
    return await this.#post(
      { "content-type": "application/json", ...bearer(user) },
      JSON.stringify({ query, variables }),
    );
  }

  /** Creates a user. */
  async createUser(name = "Ann"): Promise<Credentials> {
    const { data } = await this.run("mutation ($name: String!) { createUser(name: $name) { user { id } token } }", {
      name,
    });
    return { id: data.createUser.user.id, token: data.createUser.token };
  }

  /** Uploads a WAV and asks for the given fields of the record. */
  async uploadRecord(
    user: Credentials | undefined,
    wav: Blob | Uint8Array,
    options: UploadRequest = {},
  ): Promise<Answer> {
    const {
      fileName = "take.wav",
      fields = "id url title",
      variables = {},
      declarations = "",
      args = "",
      before = "",
    } = options;
    const query = `mutation ($file: Upload!${declarations}) { ${before} uploadRecord(file: $file${args}) { created record { ${fields} } } }`;
    const form = new FormData();
    form.set("operations", JSON.stringify({ query, variables: { file: null, ...variables } }));
    form.set("map", JSON.stringify({ 0: ["variables.file"] }));
    form.set("0", wav instanceof Blob ? wav : new Blob([new Uint8Array(wav)]), fileName);
    return await this.#post({ "apollo-require-preflight": "true", ...bearer(user), ...options.headers }, form);
  }

  async #post(headers: Record<string, string>, body: string | FormData): Promise<Answer> {
    const init = { method: "POST", headers: { ...headers, ...this.#moreHeaders() }, body };
    const response = await fetch(`${this.url}/graphql`, init);
    const { data, errors } = (await response.json()) as Pick<Answer, "data" | "errors">;
    return { status: response.status, headers: response.headers, data, errors };
  }
}

/** Details of an upload. */
export interface UploadRequest {
  readonly fileName?: string;
  /** Fields of the recording to select. */
  readonly fields?: string;
  readonly variables?: object;
  /** More variables of the operation, such as `, $title: String`. */
  readonly declarations?: string;
  /** More arguments of the mutation, such as `, title: $title`. */
  readonly args?: string;
  /** More fields of the operation, which run first. */
  readonly before?: string;
  readonly headers?: Record<string, string>;
}

function bearer(user: Credentials | undefined): Record<string, string> {
  return user ? { authorization: `Bearer ${user.token}` } : {};
}
