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

# 2. Put the token into the Headers tab below ("authorization": "Bearer <token>"), choose a WAV with
#    "Add files" in the Variables tab, give it the name "file", and run:
mutation UploadRecord($file: Upload!) {
  uploadRecord(file: $file) {
    record {
      id
      url
      title
      durationSeconds
    }
  }
}

# 3. Who am I, and what do I have?
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
