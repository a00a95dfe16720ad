// swiftc examples/Upload.swift -o upload
// TOKEN=... ./upload examples/tone.wav
import Foundation
#if canImport(FoundationNetworking)
import FoundationNetworking // on Linux
#endif

struct Answer: Decodable {
    struct Fields: Decodable { let uploadRecord: Upload }
    struct Upload: Decodable { let record: Recording }
    struct Recording: Decodable { let url: String }
    struct Refusal: Decodable, Error { let message: String, extensions: Extensions }
    struct Extensions: Decodable { let code: String }
    let data: Fields?
    let errors: [Refusal]?
}

/// Uploads a WAV and returns the link to its MP3. Throws a Refusal with the service's code and message.
func uploadRecord(endpoint: URL, token: String, wav: URL) async throws -> String {
    let boundary = UUID().uuidString
    let query = "mutation ($file: Upload!) { uploadRecord(file: $file) { record { url } } }"
    let fileName = wav.lastPathComponent.replacingOccurrences(of: "\"", with: "%22")
    var body = Data()
    func append(_ parameters: String, _ content: Data) {
        body += Data("--\(boundary)\r\nContent-Disposition: form-data; \(parameters)\r\n\r\n".utf8)
        body += content + Data("\r\n".utf8)
    }
    append(#"name="operations""#, Data(#"{"query":"\#(query)","variables":{"file":null}}"#.utf8))
    append(#"name="map""#, Data(#"{"0":["variables.file"]}"#.utf8))
    append(#"name="0"; filename="\#(fileName)""#, try Data(contentsOf: wav)) // after the other two
    body += Data("--\(boundary)--\r\n".utf8)

    var request = URLRequest(url: endpoint)
    request.httpMethod = "POST"
    request.setValue("Bearer \(token)", forHTTPHeaderField: "Authorization")
    request.setValue("multipart/form-data; boundary=\(boundary)", forHTTPHeaderField: "Content-Type")
    let (json, _) = try await URLSession.shared.upload(for: request, from: body)
    // An error of the service is in the body, whatever the status is.
    let answer = try JSONDecoder().decode(Answer.self, from: json)
    if let refusal = answer.errors?.first { throw refusal }
    return answer.data!.uploadRecord.record.url
}

let environment = ProcessInfo.processInfo.environment
let endpoint = URL(string: environment["ENDPOINT"] ?? "http://localhost:8000/graphql")!
do {
    let wav = URL(fileURLWithPath: CommandLine.arguments[1])
    print(try await uploadRecord(endpoint: endpoint, token: environment["TOKEN"]!, wav: wav))
} catch {
    let refusal = error as? Answer.Refusal
    let line = refusal.map { "\($0.extensions.code) \($0.message)" } ?? error.localizedDescription
    FileHandle.standardError.write(Data("\(line)\n".utf8))
    exit(1)
}
