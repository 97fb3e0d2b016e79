-- The vendor's API as far as a recording needs it, for nginx with Lua: see server.py.
local ffi = require "ffi"
ffi.cdef [[
typedef struct { long seconds; long nanoseconds; } invox_timespec;
int clock_gettime(int clock, invox_timespec *time);
]]

local M = {}
local jobs, settings, counts = ngx.shared.jobs, ngx.shared.settings, ngx.shared.counts
local BYTES_PER_SECOND = 16000 -- of a recording with 8 kHz and 16 bits
local CHUNK = 262144
local SEGMENT = '{"speaker":"Speaker_00","text":"%s","start":%.2f,"end":%.2f}'
local TEXT = "She complains of a pain in her left knee."
local SEGMENT_SECONDS = 5
local signatures = {} -- of webhooks: each only once, the daemon takes another for a replay
local spec = ffi.new("invox_timespec")

function M.load_signatures(path)
    for line in io.lines(path) do
        signatures[#signatures + 1] = line
    end
end

-- Seconds since the epoch, exact to the microsecond; ngx.now() is a time of this turn of the event loop.
local function now()
    ffi.C.clock_gettime(0, spec)
    return tonumber(spec.seconds) + tonumber(spec.nanoseconds) / 1e9
end

local function begin(call)
    local at = now()
    counts:incr(call, 1, 0)
    counts:safe_add("first", at)
    counts:set("last", at)
    if settings:get("trace") == 1 then
        ngx.shared.trace:rpush("calls", string.format("%s %.6f", call, at))
    end
    local latency = settings:get("latency_seconds") or 0
    if latency > 0 then
        ngx.sleep(latency)
    end
    local every = settings:get("fault_every") or 0
    return every > 0 and counts:incr("calls", 1, 0) % every == 0
end

local function answer(status, body)
    ngx.status = status
    ngx.header["Content-Type"] = "application/json"
    ngx.header["Content-Length"] = #body
    ngx.print(body)
end

-- What an overloaded API says; every `fault_every`-th call gets it.
local function fault()
    counts:incr("faults", 1, 0)
    answer(503, '{"message":"Service Unavailable"}')
end

local function body()
    ngx.req.read_body()
    return ngx.req.get_body_data() or ""
end

-- A transcript that covers the whole recording: otherwise a daemon with the extra `coverage` listens to it.
local function words(seconds)
    local segments = {}
    local longest = math.max(SEGMENT_SECONDS, seconds / 200)
    local text = (TEXT .. " "):rep(math.ceil(longest / SEGMENT_SECONDS) - 1) .. TEXT
    local start = 0
    repeat
        local finish = math.min(start + longest, seconds)
        segments[#segments + 1] = string.format(SEGMENT, text, start, finish)
        start = finish
    until start >= seconds
    return "[" .. table.concat(segments, ",") .. "]"
end

local function push(premature, id, url, seconds)
    if premature then
        return
    end
    local host, port, path = url:match("^http://([^:/]+):(%d+)(/.*)$")
    local text = string.format(
        '{"requestId":"%s","status":"COMPLETED","transcription":%s,"signature":"%s","createdAt":%d}',
        id, words(seconds), table.remove(signatures), ngx.time())
    for _ = 1, 5 do
        local socket = ngx.socket.tcp()
        socket:settimeout(10000)
        if socket:connect(host, tonumber(port)) then
            socket:send("POST " .. path .. " HTTP/1.1\r\nHost: " .. host .. "\r\nContent-Type: application/json\r\n"
                .. "Content-Length: " .. #text .. "\r\n\r\n" .. text)
            local line = socket:receive("*l")
            local length = 0
            while line and line ~= "" do
                line = socket:receive("*l")
                length = tonumber((line or ""):lower():match("^content%-length: (%d+)")) or length
            end
            if line and socket:receive(length) then
                socket:setkeepalive(60000, 64)
                counts:incr("webhooks", 1, 0)
                return
            end
            socket:close()
        end
        ngx.sleep(0.5)
    end
    counts:incr("webhooks_lost", 1, 0)
end

function M.token()
    begin("token")
    body()
    answer(200, '{"access_token":"token-of-the-bench","token_type":"Bearer","expires_in":7200}')
end

function M.presign()
    local ill = begin("presign")
    local text = body()
    if ill then
        return fault()
    end
    if not text:find('"mimeType"', 1, true) or not ngx.var.http_authorization then
        return answer(400, '{"message":"mimeType or Authorization is missing."}')
    end
    local id = string.format("%08x-b0a7-4000-8000-%012x", counts:incr("ids", 1, 0), ngx.worker.pid())
    local callback = text:match('"callbackUrl"%s*:%s*"([^"]+)"')
    if callback then
        jobs:set("u" .. id, callback)
    end
    answer(200, string.format('{"presignedUrl":"%s://%s/put/%s?X-Amz-Signature=%s","requestId":"%s"}',
        ngx.var.scheme, ngx.var.http_host, id, ("5"):rep(64), id))
end

function M.put()
    local ill = begin("put")
    local length = tonumber(ngx.var.http_content_length)
    if not length then
        return answer(411, '{"message":"Content-Length is missing."}')
    end
    if ngx.var.http_authorization then
        return answer(400, '{"message":"Only one form of authentication is allowed."}')
    end
    local left = length
    if length > 0 then
        local socket = assert(ngx.req.socket())
        socket:settimeout(60000)
        while left > 0 do
            local data, problem = socket:receiveany(CHUNK)
            if not data then
                counts:incr("broken_uploads", 1, 0)
                ngx.log(ngx.WARN, "upload ended early: ", problem)
                return ngx.exit(400)
            end
            left = left - #data
        end
    end
    if ill then
        return fault()
    end
    local id = ngx.var.uri:sub(6)
    local seconds = settings:get("reply_seconds") or 0
    if seconds == 0 then
        seconds = length / BYTES_PER_SECOND
    end
    local spread = 1 + (settings:get("spread") or 0) * (2 * math.random() - 1)
    local wait = (settings:get("result_seconds") or 0) + (settings:get("result_share") or 0) * seconds * spread
    local at = now()
    if jobs:get("r" .. id) then
        counts:incr("uploaded_again", 1, 0)
    end
    jobs:set("r" .. id, at + wait)
    jobs:set("s" .. id, at)
    jobs:set("l" .. id, seconds)
    counts:incr("bytes", length, 0)
    local callback = jobs:get("u" .. id)
    if callback then
        assert(ngx.timer.at(wait, push, id, callback, seconds))
    end
    ngx.header["ETag"] = '"0"'
    ngx.header["Content-Length"] = 0
    ngx.status = 200
end

function M.result()
    local ill = begin("result")
    local id = body():match('"requestId"%s*:%s*"([^"]+)"')
    if ill then
        return fault()
    end
    local ready = id and jobs:get("r" .. id)
    if not ready then
        counts:incr("unknown", 1, 0)
        return answer(404, '{"message":"Not found.","errorType":"transcriptionNotFound"}')
    end
    jobs:incr("p" .. id, 1, 0)
    local at = now()
    if at < ready then
        return answer(200, '{"transcription":[],"processingStatus":"PENDING"}')
    end
    jobs:safe_add("c" .. id, at)
    answer(200, '{"transcription":' .. words(jobs:get("l" .. id)) .. ',"processingStatus":"COMPLETED"}')
end

-- For the bench: settings as a query, counts, the trace of calls, and what has become of each job.
function M.control()
    local path = ngx.var.uri
    if path == "/bench/settings" then
        for name, value in pairs(ngx.req.get_uri_args()) do
            settings:set(name, tonumber(value) or value)
        end
    elseif path == "/bench/reset" then
        counts:flush_all()
        jobs:flush_all()
        ngx.shared.trace:flush_all()
    elseif path == "/bench/counts" then
        for _, name in ipairs(counts:get_keys(0)) do
            ngx.say(name, " ", string.format("%.6f", counts:get(name)))
        end
    elseif path == "/bench/trace" then
        local line = ngx.shared.trace:lpop("calls")
        while line do
            ngx.say(line)
            line = ngx.shared.trace:lpop("calls")
        end
    elseif path == "/bench/jobs" then
        for _, key in ipairs(jobs:get_keys(0)) do
            if key:sub(1, 1) == "r" then
                local id = key:sub(2)
                ngx.say(string.format("%s %.6f %.6f %.6f %d", id, jobs:get("s" .. id) or 0, jobs:get(key) or 0,
                    jobs:get("c" .. id) or 0, jobs:get("p" .. id) or 0))
            end
        end
    end
end

return M
