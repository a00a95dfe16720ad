// kotlinc examples/Upload.kt -cp okhttp.jar:json.jar -d upload.jar
// TOKEN=... kotlin -cp upload.jar:okhttp.jar:okio.jar:json.jar UploadKt examples/tone.wav
import java.io.File
import java.io.IOException
import kotlin.system.exitProcess
import okhttp3.MultipartBody
import okhttp3.OkHttpClient
import okhttp3.Request
import okhttp3.RequestBody
import org.json.JSONObject

private val client = OkHttpClient()

/** Uploads a WAV and returns the link to its MP3. Throws an IOException with the service's code and message. */
fun uploadRecord(endpoint: String, token: String, wav: File): String {
    val query = "mutation (\$file: Upload!) { uploadRecord(file: \$file) { record { url } } }"
    val operations = JSONObject().put("query", query).put("variables", JSONObject().put("file", JSONObject.NULL))
    val form = MultipartBody.Builder()
        .setType(MultipartBody.FORM)
        .addFormDataPart("operations", operations.toString())
        .addFormDataPart("map", """{"0":["variables.file"]}""")
        .addFormDataPart("0", wav.name, RequestBody.create(null, wav)) // after the other two
        .build()
    val request = Request.Builder().url(endpoint).header("Authorization", "Bearer $token").post(form).build()
    // An error of the service is in the body, whatever the status is.
    val body = client.newCall(request).execute().use { JSONObject(it.peekBody(Long.MAX_VALUE).string()) }
    body.optJSONArray("errors")?.getJSONObject(0)?.let {
        throw IOException(it.getJSONObject("extensions").getString("code") + " " + it.getString("message"))
    }
    return body.getJSONObject("data").getJSONObject("uploadRecord").getJSONObject("record").getString("url")
}

fun main(args: Array<String>) {
    val endpoint = System.getenv("ENDPOINT") ?: "http://localhost:8000/graphql"
    try {
        println(uploadRecord(endpoint, System.getenv("TOKEN"), File(args[0])))
        exitProcess(0) // do not wait for the idle connections of the client
    } catch (error: IOException) {
        System.err.println(error.message)
        exitProcess(1)
    }
}
