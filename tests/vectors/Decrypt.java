// Reads a signature in the raw layout and, on the next line, the app secret; prints what was signed. As the
// guide's Java example does it.

import java.util.Arrays;
import java.util.Base64;
import javax.crypto.Cipher;
import javax.crypto.spec.IvParameterSpec;
import javax.crypto.spec.SecretKeySpec;

import static java.nio.charset.StandardCharsets.UTF_8;

public class Decrypt {
    public static void main(String[] arguments) throws Exception {
        String[] lines = new String(System.in.readAllBytes(), UTF_8).split("\n");
        byte[] received = Base64.getDecoder().decode(lines[0]);
        Cipher cipher = Cipher.getInstance("AES/CBC/PKCS5Padding");
        SecretKeySpec key = new SecretKeySpec(lines[1].getBytes(UTF_8), "AES");
        cipher.init(Cipher.DECRYPT_MODE, key, new IvParameterSpec(Arrays.copyOf(received, 16)));
        System.out.write(cipher.doFinal(received, 16, received.length - 16));
        System.out.flush();
    }
}
