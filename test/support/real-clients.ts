import { execFileSync } from "node:child_process";
import { delimiter, join } from "node:path";
import { pythonWithRequests, runs, type ProgramName } from "./needs.ts";

/** A program that sends the file `body` several times to an address, and prints status and code of each answer. */
export interface RealClient {
  readonly name: string;
  /** The command; its program and the address follow as arguments. */
  readonly command: readonly string[];
  readonly source: string;
}

/** A client that does not run on Node, and the program that it needs. */
export interface OtherClient extends RealClient {
  readonly needs: ProgramName;
}

/** Clients that people use: those of each Node on this machine, and others. */
export function realClients(
  headers: Readonly<Record<string, string>>,
  attempts: number,
): { readonly ofNode: readonly RealClient[]; readonly ofOthers: readonly OtherClient[] } {
  const ofNode = nodes().flatMap(([version, program]) => {
    const command = [program, "--input-type=module", "--eval"];
    return [
      { name: `fetch of Node ${version}`, command, source: fetchProgram(headers, attempts) },
      {
        name: `node:http of Node ${version}, without an error behind the answer`,
        command,
        source: httpProgram(headers, attempts),
      },
    ];
  });
  const ofOthers: OtherClient[] = [
    {
      name: "http.client of Python",
      needs: "Python",
      command: ["python3", "-c"],
      source: httpClientProgram(headers, attempts),
    },
    {
      name: "requests of Python",
      needs: "requests for Python",
      command: [pythonWithRequests() ?? "python3", "-c"],
      source: requestsProgram(headers, attempts),
    },
    ...["HttpURLConnection", "HttpClient"].map((name) => ({
      name: `${name} of Java`,
      needs: "Java" as const,
      command: ["java", "Upload.java", name],
      source: javaProgram(headers, attempts),
    })),
  ];
  return { ofNode, ofOthers };
}

/** The Node that runs this and others on the PATH: each version with its program. */
function nodes(): [version: string, program: string][] {
  const found = new Map([[process.version, process.execPath]]);
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    const program = join(folder, "node");
    if (!runs(program, "--version")) continue;
    const version = execFileSync(program, ["--version"], { encoding: "utf8" }).trim();
    if (!found.has(version)) found.set(version, program);
  }
  return [...found];
}

type Program = (headers: Readonly<Record<string, string>>, attempts: number) => string;

const nodeHead = (headers: Readonly<Record<string, string>>) => `
  import { readFileSync } from "node:fs";
  const body = readFileSync("body");
  const headers = ${JSON.stringify(headers)};
  const print = (status, text) => console.log(status, JSON.parse(text).errors[0].extensions.code);
`;

const fetchProgram: Program = (headers, attempts) => `${nodeHead(headers)}
  for (let attempt = 0; attempt < ${attempts}; attempt++) {
    const answer = await fetch(process.argv.at(-1), { method: "POST", headers, body });
    print(answer.status, await answer.text());
  }
`;

const httpProgram: Program = (headers, attempts) => `${nodeHead(headers)}
  import { request } from "node:http";
  import { text } from "node:stream/consumers";
  for (let attempt = 0; attempt < ${attempts}; attempt++) {
    await new Promise((resolve) => {
      const options = { method: "POST", headers: { ...headers, "content-length": body.length } };
      const sent = request(process.argv.at(-1), options);
      sent.on("response", async (answer) => print(answer.statusCode, await text(answer)));
      sent.on("error", (error) => console.log(error.code));
      sent.on("close", resolve);
      sent.end(body);
    });
  }
`;

const httpClientProgram: Program = (headers, attempts) => `
import http.client, json, sys, urllib.parse
address = urllib.parse.urlparse(sys.argv[-1])
with open("body", "rb") as file:
    body = file.read()
for attempt in range(${attempts}):
    connection = http.client.HTTPConnection(address.netloc)
    connection.request("POST", address.path, body, ${JSON.stringify(headers)})
    answer = connection.getresponse()
    print(answer.status, json.loads(answer.read())["errors"][0]["extensions"]["code"])
`;

const requestsProgram: Program = (headers, attempts) => `
import requests, sys
session = requests.Session()
session.trust_env = False
for attempt in range(${attempts}):
    with open("body", "rb") as body:
        answer = session.post(sys.argv[-1], data=body, headers=${JSON.stringify(headers)})
    print(answer.status_code, answer.json()["errors"][0]["extensions"]["code"])
`;

const javaProgram: Program = (headers, attempts) => `
import java.net.*;
import java.net.http.*;
import java.nio.file.*;

class Upload {
  static final String[] HEADERS = { ${Object.entries(headers)
    .flat()
    .map((text) => JSON.stringify(text))
    .join(", ")} };

  public static void main(String[] args) throws Exception {
    var address = URI.create(args[args.length - 1]);
    for (int attempt = 0; attempt < ${attempts}; attempt++) {
      if (args[0].equals("HttpClient")) {
        var request = HttpRequest.newBuilder(address).headers(HEADERS)
          .POST(HttpRequest.BodyPublishers.ofFile(Path.of("body"))).build();
        var answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString());
        print(answer.statusCode(), answer.body());
      } else {
        var connection = (HttpURLConnection) address.toURL().openConnection();
        connection.setDoOutput(true);
        for (int at = 0; at < HEADERS.length; at += 2) connection.setRequestProperty(HEADERS[at], HEADERS[at + 1]);
        try (var out = connection.getOutputStream()) {
          Files.copy(Path.of("body"), out);
        }
        int status = connection.getResponseCode();
        print(status, new String(connection.getErrorStream().readAllBytes()));
      }
    }
  }

  static void print(int status, String text) {
    System.out.println(status + " " + text.replaceAll("(?s).*?([A-Z_]{5,}).*", "$1"));
  }
}
`;
