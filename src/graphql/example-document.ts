/** The headers that Apollo Sandbox and the explorer show first. The first operation does not look at them. */
export const exampleHeaders = { authorization: "Bearer PASTE-THE-TOKEN" };

/** @param howToSend the comment that says where the token and the file go */
function documentWith(howToSend: string): string {
  return `# 1. Create a user. Keep the token: it is shown only now.
mutation CreateUser {
  createUser(name: "Ann") {
    user {
      id
    }
    token
  }
}

${howToSend}
mutation UploadRecord($file: Upload!) {
  uploadRecord(file: $file) {
    record {
      id
      url
      streamUrl
      title
      durationSeconds
    }
  }
}

# 3. An upload that can be repeated. Run this twice: the second time, "created" is false, and nothing is stored again. An app
#    makes up one key for each file.
mutation UploadWithRetry($file: Upload!) {
  uploadRecord(file: $file, idempotencyKey: "5c0a7e3e-8f4b-4d2a-9a51-2f6f0d3c1b77") {
    created
    record {
      id
      url
    }
  }
}

# 4. Who am I, and what do I have?
query Me {
  me {
    id
    name
    createdAt
    records(first: 20) {
      totalCount
      nodes {
        id
        title
        url
      }
    }
  }
}
`;
}

/** The document that Apollo Sandbox shows first. */
export const exampleDocument =
  documentWith(`# 2. In the Headers tab below, replace PASTE-THE-TOKEN by the token. In the Variables tab, choose a WAV with "Add files" (one
#    file, without "multiple files") and give it the name "file". Run this, and open streamUrl:`);

/** The document that the explorer shows first. */
export const explorerDocument =
  documentWith(`# 2. Under "Set Headers" (the two arrows at the left), replace PASTE-THE-TOKEN by the token. Open "VARIABLES" below, and
#    choose a WAV with "Add files" and "Select files..". Run this, and open streamUrl:`);
