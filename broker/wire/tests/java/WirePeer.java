// SPDX-License-Identifier: Apache-2.0
// Kafka's own message classes behind standard input and output, for the differential test of our codec.
// One command a line, one line of answer to each:
//   message KEY VERSION request|response HEX  the bytes read and written again, and what toString says, both hex
//   default KEY VERSION request|response      the same for a message with nothing set
//   header KEY VERSION                        versions of the request's and of the response's header
//   versions KEY                              lowest and highest stable version
//   errors                                    number,name,retriable of every error code

import java.io.BufferedReader;
import java.io.BufferedWriter;
import java.io.InputStreamReader;
import java.io.OutputStreamWriter;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.HexFormat;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.ObjectSerializationCache;

public final class WirePeer {
    public static void main(String[] arguments) throws Exception {
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        BufferedWriter out = new BufferedWriter(new OutputStreamWriter(System.out, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String answer;
            try {
                answer = answer(line.split(" "));
            } catch (Throwable failure) {
                answer = "error " + failure.toString().replace('\n', ' ');
            }
            out.write(answer);
            out.newLine();
            out.flush();
        }
    }

    private static String answer(String[] words) {
        switch (words[0]) {
            case "message": {
                short version = Short.parseShort(words[2]);
                ApiMessage message = create(words);
                ByteBuffer bytes = ByteBuffer.wrap(words.length > 4 ? HexFormat.of().parseHex(words[4]) : new byte[0]);
                message.read(new ByteBufferAccessor(bytes), version);
                if (bytes.hasRemaining()) {
                    return "error " + bytes.remaining() + " bytes left";
                }
                return write(message, version);
            }
            case "default":
                return write(create(words), Short.parseShort(words[2]));
            case "header": {
                ApiMessageType type = ApiMessageType.fromApiKey(Short.parseShort(words[1]));
                short version = Short.parseShort(words[2]);
                return type.requestHeaderVersion(version) + " " + type.responseHeaderVersion(version);
            }
            case "versions": {
                ApiMessageType type = ApiMessageType.fromApiKey(Short.parseShort(words[1]));
                return type.lowestSupportedVersion() + " " + type.highestSupportedVersion(false);
            }
            case "errors": {
                StringBuilder all = new StringBuilder();
                for (Errors error : Errors.values()) {
                    boolean retriable = error.exception() instanceof RetriableException;
                    all.append(all.isEmpty() ? "" : " ");
                    all.append(error.code()).append(',').append(error.name()).append(',').append(retriable);
                }
                return all.toString();
            }
            default:
                return "error unknown command";
        }
    }

    private static ApiMessage create(String[] words) {
        ApiMessageType type = ApiMessageType.fromApiKey(Short.parseShort(words[1]));
        return words[3].equals("request") ? type.newRequest() : type.newResponse();
    }

    private static String write(ApiMessage message, short version) {
        ObjectSerializationCache cache = new ObjectSerializationCache();
        ByteBufferAccessor bytes = new ByteBufferAccessor(ByteBuffer.allocate(message.size(cache, version)));
        message.write(bytes, cache, version);
        bytes.flip();
        byte[] written = new byte[bytes.remaining()];
        bytes.buffer().get(written);
        // Records print where they are, not what they hold; the bytes above compare them.
        String text = message.toString()
            .replaceAll("records=(null|MemoryRecords\\(size=[0-9]+, buffer=[^)]*\\))", "records=(records)");
        byte[] printed = text.getBytes(StandardCharsets.UTF_8);
        // The dot keeps two words where a message is empty.
        return "." + HexFormat.of().formatHex(written) + " ." + HexFormat.of().formatHex(printed);
    }
}
