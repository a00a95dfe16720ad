// Mono: mcs -r:System.Net.Http -r:System.Runtime.Serialization examples/Upload.cs
// TOKEN=... mono examples/Upload.exe examples/tone.wav
using System;
using System.IO;
using System.Net.Http;
using System.Net.Http.Headers;
using System.Runtime.Serialization.Json;
using System.Threading.Tasks;

public class Answer
{
    public Fields data;
    public Refusal[] errors;
    public class Fields { public Upload uploadRecord; }
    public class Upload { public Recording record; }
    public class Recording { public string url; }
    public class Refusal { public string message; public Extensions extensions; }
    public class Extensions { public string code; }
}

public static class Program
{
    static readonly HttpClient client = new HttpClient();

    /// <summary>Uploads a WAV and returns the link to its MP3. Throws an IOException with the service's code and message.</summary>
    public static async Task<string> UploadRecord(string endpoint, string token, string path)
    {
        const string query = "mutation ($file: Upload!) { uploadRecord(file: $file) { record { url } } }";
        using (var form = new MultipartFormDataContent())
        using (var request = new HttpRequestMessage(HttpMethod.Post, endpoint) { Content = form })
        {
            form.Add(new StringContent("{\"query\":\"" + query + "\",\"variables\":{\"file\":null}}"), "operations");
            form.Add(new StringContent("{\"0\":[\"variables.file\"]}"), "map");
            form.Add(new StreamContent(File.OpenRead(path)), "0", Path.GetFileName(path)); // after the other two
            request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", token);
            using (var response = await client.SendAsync(request))
            using (var body = await response.Content.ReadAsStreamAsync())
            {
                // An error of the service is in the body, whatever the status is.
                var answer = (Answer)new DataContractJsonSerializer(typeof(Answer)).ReadObject(body);
                if (answer.errors != null) throw new IOException(answer.errors[0].extensions.code + " " + answer.errors[0].message);
                return answer.data.uploadRecord.record.url;
            }
        }
    }

    public static int Main(string[] args)
    {
        var endpoint = Environment.GetEnvironmentVariable("ENDPOINT") ?? "http://localhost:8000/graphql";
        try
        {
            Console.WriteLine(UploadRecord(endpoint, Environment.GetEnvironmentVariable("TOKEN"), args[0]).GetAwaiter().GetResult());
            return 0;
        }
        catch (Exception error) when (error is IOException || error is HttpRequestException)
        {
            Console.Error.WriteLine(error.Message);
            return 1;
        }
    }
}
