/** The headers that Apollo Sandbox shows first. The first operation does not look at them. */
export const exampleHeaders = { authorization: "Bearer PASTE-THE-TOKEN" };

/** The document that Apollo Sandbox shows first. */
export const exampleDocument = `# 1. Create a user. Keep the token: it is shown only now.
mutation CreateUser {
  createUser(name: "Ann") {
    user {
      id
    }
    token
  }
}

# 2. In the Headers tab below, replace PASTE-THE-TOKEN by the token. In the Variables tab, choose a WAV with "Add files" (one
#    file, without "multiple files") and give it the name "file". Run this, and open streamUrl:
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
