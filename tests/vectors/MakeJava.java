// Signatures as the guide's Java example makes them: a random IV, then AES/CBC with the secret's bytes as key.

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import javax.crypto.Cipher;
import javax.crypto.spec.IvParameterSpec;
import javax.crypto.spec.SecretKeySpec;

import static java.nio.charset.StandardCharsets.UTF_8;

public class MakeJava {
    public static void main(String[] arguments) throws Exception {
        String input = new String(System.in.readAllBytes(), UTF_8);
        List<String> vectors = new ArrayList<>();
        for (String line : input.lines().skip(1).toList()) {
            String[] fields = line.split("\t");
            int keyBytes = fields[2].getBytes(UTF_8).length;
            if (keyBytes == 16 || keyBytes == 24 || keyBytes == 32) {
                vectors.add(vector(fields[0], fields[1], fields[2]));
            }
        }
        new PrintStream(System.out, true, UTF_8).println("[\n" + String.join(",\n", vectors) + "\n]");
    }

    // No case holds a character that JSON would have escaped.
    private static String vector(String appId, String apiKey, String appSecret) throws Exception {
        return String.format(
            "{\"client\":\"java\",\"version\":\"%s\",\"app_id\":\"%s\",\"api_key\":\"%s\",\"app_secret\":\"%s\","
                + "\"signature\":\"%s\"}",
            Runtime.version(), appId, apiKey, appSecret, sign(appId + "~" + apiKey, appSecret));
    }

    private static String sign(String text, String secret) throws Exception {
        byte[] iv = new byte[16];
        new SecureRandom().nextBytes(iv);
        Cipher cipher = Cipher.getInstance("AES/CBC/PKCS5Padding");
        SecretKeySpec key = new SecretKeySpec(secret.getBytes(UTF_8), "AES");
        cipher.init(Cipher.ENCRYPT_MODE, key, new IvParameterSpec(iv));
        ByteArrayOutputStream signature = new ByteArrayOutputStream();
        signature.write(iv);
        signature.write(cipher.doFinal(text.getBytes(UTF_8)));
        return Base64.getEncoder().encodeToString(signature.toByteArray());
    }
}
