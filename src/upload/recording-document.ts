/** The query whose result is the answer to the last request of a resumable upload: every plain field of the recording. */
export const recordDocument = `query ResumableUpload($id: ID!) {
  upload(id: $id) {
    id
    state
    offset
    sizeBytes
    expiresAt
    recording {
      id
      url
      title
      fileName
      createdAt
      visibility
      durationSeconds
      sizeBytes
      bitrateKbps
      sampleRateHz
      channels
      sourceSha256
      mp3GainDb
      samplePeakDbfs
      truePeakDbtp
      warnings
      tags { name value }
      loudness { integratedLufs rangeLu samplePeakDbfs truePeakDbtp }
      source { codec bitsPerSample sampleRateHz channels sizeBytes leftOutBytes sha256 }
    }
  }
}`;
