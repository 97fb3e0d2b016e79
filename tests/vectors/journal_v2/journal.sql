BEGIN TRANSACTION;
CREATE TABLE history (
	id INTEGER NOT NULL, 
	job_id VARCHAR NOT NULL, 
	at VARCHAR NOT NULL, 
	state VARCHAR NOT NULL, 
	detail TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "history" VALUES(1,'20261128t094424-be2a3aa97a13','2026-11-28T09:44:24.915280+00:00','claimed','{"size_bytes": 1644, "format": "WAV (PCM)", "waited_seconds": 0.3}');
INSERT INTO "history" VALUES(2,'20261128t094424-be2a3aa97a13','2026-11-28T09:44:24.932819+00:00','identified','{"sha256": "51070420d63a90f7515b88dc86c5dec19c42bbb9fa6a528d6a6ae53f11bce7f8"}');
INSERT INTO "history" VALUES(3,'20261128t094424-be2a3aa97a13','2026-11-28T09:44:24.945098+00:00','uploading','{"request_id": "76e4aea0-02ae-4cb3-a09c-0e2b9cdd8fa4"}');
INSERT INTO "history" VALUES(4,'20261128t094424-be2a3aa97a13','2026-11-28T09:44:24.953832+00:00','waiting','{"size_bytes": 1644, "sha256": "51070420d63a90f7515b88dc86c5dec19c42bbb9fa6a528d6a6ae53f11bce7f8"}');
INSERT INTO "history" VALUES(5,'20261128t094424-be2a3aa97a13','2026-11-28T09:44:24.963579+00:00','transcribed','{}');
INSERT INTO "history" VALUES(6,'20261128t094424-be2a3aa97a13','2026-11-28T09:44:24.978796+00:00','delivered','{"outputs": {"ward 3/done.json": "3cc26cfcf6ff80e3883ab80ba1a7cff8f6b478e7771f8413c4ebea057a66a5aa", "ward 3/done.srt": "e00b0beb94a15bdd118e19a7810d826b3e6b88b3ee8036a291c1fb0b93e79c09"}}');
INSERT INTO "history" VALUES(7,'20261128t094424-be2a3aa97a13','2026-11-28T09:44:24.982598+00:00','done','{}');
INSERT INTO "history" VALUES(8,'20261128t094424-732698ccbe74','2026-11-28T09:44:24.989917+00:00','claimed','{"size_bytes": 1644, "format": "WAV (PCM)", "waited_seconds": 0.3}');
INSERT INTO "history" VALUES(9,'20261128t094424-732698ccbe74','2026-11-28T09:44:24.994319+00:00','failing','{"code": "not_audio", "stage": "claimed"}');
INSERT INTO "history" VALUES(10,'20261128t094424-732698ccbe74','2026-11-28T09:44:25.002339+00:00','failed','{"outputs": {"failed.wav.error.json": "c6f58f2c83981d5f36de9938bcd7babb256f23f3eb9468addd82bedbad7d2d98"}}');
INSERT INTO "history" VALUES(11,'20261128t094425-bb078b8ff0f4','2026-11-28T09:44:25.010273+00:00','claimed','{"size_bytes": 1644, "format": "WAV (PCM)", "waited_seconds": 0.3}');
INSERT INTO "history" VALUES(12,'20261128t094425-bb078b8ff0f4','2026-11-28T09:44:25.019395+00:00','identified','{"sha256": "bbd0f179a625235c31a0b3af6369cb80fbb2732122c597f9edeadb76492b12a1"}');
INSERT INTO "history" VALUES(13,'20261128t094425-bb078b8ff0f4','2026-11-28T09:44:25.026425+00:00','vanished','{}');
INSERT INTO "history" VALUES(14,'20261128t094425-8677a093ffd4','2026-11-28T09:44:25.030087+00:00','claimed','{"size_bytes": 1644, "format": "WAV (PCM)", "waited_seconds": 0.3}');
INSERT INTO "history" VALUES(15,'20261128t094425-dfa34ca7ca07','2026-11-28T09:44:25.037991+00:00','claimed','{"size_bytes": 1644, "format": "WAV (PCM)", "waited_seconds": 0.3}');
INSERT INTO "history" VALUES(16,'20261128t094425-dfa34ca7ca07','2026-11-28T09:44:25.043878+00:00','identified','{"sha256": "9ec4da2f5c6ac1d64c4fcf7dfd1dd51680e7c83af68b2648b081430e7013f26a"}');
INSERT INTO "history" VALUES(17,'20261128t094425-b15d37325ed0','2026-11-28T09:44:25.051036+00:00','claimed','{"size_bytes": 1644, "format": "WAV (PCM)", "waited_seconds": 0.3}');
INSERT INTO "history" VALUES(18,'20261128t094425-b15d37325ed0','2026-11-28T09:44:25.055751+00:00','identified','{"sha256": "d665392e1df486748edae748fcd808d63a252a44ea06f824080194675499eef2"}');
INSERT INTO "history" VALUES(19,'20261128t094425-b15d37325ed0','2026-11-28T09:44:25.064647+00:00','uploading','{"request_id": "eb0bfd80-04ca-48ef-be5f-12a9fc269015"}');
INSERT INTO "history" VALUES(20,'20261128t094425-308c978afaa1','2026-11-28T09:44:25.077912+00:00','claimed','{"size_bytes": 1644, "format": "WAV (PCM)", "waited_seconds": 0.3}');
INSERT INTO "history" VALUES(21,'20261128t094425-308c978afaa1','2026-11-28T09:44:25.099691+00:00','identified','{"sha256": "814b6cc451b0711b0397f432381549ec7bf8cd58869ffb5b24201752c7dae42b"}');
INSERT INTO "history" VALUES(22,'20261128t094425-308c978afaa1','2026-11-28T09:44:25.108545+00:00','uploading','{"request_id": "e48865ba-9767-4979-b1e2-f517e8856182"}');
INSERT INTO "history" VALUES(23,'20261128t094425-308c978afaa1','2026-11-28T09:44:25.123941+00:00','waiting','{"size_bytes": 1644, "sha256": "814b6cc451b0711b0397f432381549ec7bf8cd58869ffb5b24201752c7dae42b"}');
INSERT INTO "history" VALUES(24,'20261128t094425-2b507b27bbba','2026-11-28T09:44:25.143880+00:00','claimed','{"size_bytes": 1644, "format": "WAV (PCM)", "waited_seconds": 0.3}');
INSERT INTO "history" VALUES(25,'20261128t094425-2b507b27bbba','2026-11-28T09:44:25.151122+00:00','identified','{"sha256": "814b6cc451b0711b0397f432381549ec7bf8cd58869ffb5b24201752c7dae42b", "original_id": "20261128t094425-308c978afaa1"}');
INSERT INTO "history" VALUES(26,'20261128t094425-186d9067a1b3','2026-11-28T09:44:25.157945+00:00','claimed','{"size_bytes": 1644, "format": "WAV (PCM)", "waited_seconds": 0.3}');
INSERT INTO "history" VALUES(27,'20261128t094425-186d9067a1b3','2026-11-28T09:44:25.161493+00:00','identified','{"sha256": "52ea7ddaee93c6b3ebbeb2927651ec6466c91d65eb75b836f26f41480517672a"}');
INSERT INTO "history" VALUES(28,'20261128t094425-186d9067a1b3','2026-11-28T09:44:25.170554+00:00','uploading','{"request_id": "b8850b62-a913-4adf-b436-8c3aea0f96d1"}');
INSERT INTO "history" VALUES(29,'20261128t094425-186d9067a1b3','2026-11-28T09:44:25.178825+00:00','waiting','{"size_bytes": 1644, "sha256": "52ea7ddaee93c6b3ebbeb2927651ec6466c91d65eb75b836f26f41480517672a"}');
INSERT INTO "history" VALUES(30,'20261128t094425-186d9067a1b3','2026-11-28T09:44:25.189249+00:00','transcribed','{}');
INSERT INTO "history" VALUES(31,'20261128t094425-40cec985b929','2026-11-28T09:44:25.200372+00:00','claimed','{"size_bytes": 1644, "format": "WAV (PCM)", "waited_seconds": 0.3}');
INSERT INTO "history" VALUES(32,'20261128t094425-40cec985b929','2026-11-28T09:44:25.222815+00:00','identified','{"sha256": "f47ad1cf6d0a19dc5600b6a6f2c430f72199880dee297cdc13d61933dcdb2653"}');
INSERT INTO "history" VALUES(33,'20261128t094425-40cec985b929','2026-11-28T09:44:25.262020+00:00','uploading','{"request_id": "fbcf6165-646f-475a-a2dc-bca2a51c50e9"}');
INSERT INTO "history" VALUES(34,'20261128t094425-40cec985b929','2026-11-28T09:44:25.300717+00:00','waiting','{"size_bytes": 1644, "sha256": "f47ad1cf6d0a19dc5600b6a6f2c430f72199880dee297cdc13d61933dcdb2653"}');
INSERT INTO "history" VALUES(35,'20261128t094425-40cec985b929','2026-11-28T09:44:25.323356+00:00','transcribed','{}');
INSERT INTO "history" VALUES(36,'20261128t094425-40cec985b929','2026-11-28T09:44:25.369390+00:00','delivered','{"outputs": {"delivered.json": "6f2e964c31fe37fc06c8338949fc052938d707778b274b1a039f343018677b21", "delivered.srt": "084359cbd392f9ecd207683aca65f99ff53c1e7a7cca80cbdd13a7ff21c62924"}}');
INSERT INTO "history" VALUES(37,'20261128t094425-dd7ae547e098','2026-11-28T09:44:25.417906+00:00','claimed','{"size_bytes": 1644, "format": "WAV (PCM)", "waited_seconds": 0.3}');
INSERT INTO "history" VALUES(38,'20261128t094425-dd7ae547e098','2026-11-28T09:44:25.434919+00:00','identified','{"sha256": "379340ccaca81334cfa388767ebf649088b2eec5e2c506acc66848d9accb2ddf"}');
INSERT INTO "history" VALUES(39,'20261128t094425-dd7ae547e098','2026-11-28T09:44:25.469928+00:00','failing','{"code": "truncated", "stage": "identified"}');
CREATE TABLE jobs (
	id VARCHAR NOT NULL, 
	state VARCHAR NOT NULL, 
	path BLOB NOT NULL, 
	size_bytes BIGINT NOT NULL, 
	device VARCHAR NOT NULL, 
	inode VARCHAR NOT NULL, 
	mtime_ns VARCHAR NOT NULL, 
	received_at VARCHAR NOT NULL, 
	format TEXT, 
	mime_type TEXT, 
	duration_seconds FLOAT, 
	refusal TEXT, 
	sha256 VARCHAR, 
	original_id VARCHAR, 
	request_id TEXT, 
	attempts INTEGER NOT NULL, 
	url_refusals INTEGER NOT NULL, 
	voids INTEGER NOT NULL, 
	uploaded_bytes BIGINT NOT NULL, 
	uploaded_at VARCHAR, 
	completed_at VARCHAR, 
	delivered_by VARCHAR, 
	filed_as BLOB, 
	failure TEXT, 
	updated_at VARCHAR NOT NULL, 
	reserved BLOB, 
	hook_due BOOLEAN NOT NULL, 
	recording_deleted_at VARCHAR, 
	transcripts_deleted_at VARCHAR, 
	PRIMARY KEY (id), 
	UNIQUE (reserved)
);
INSERT INTO "jobs" VALUES('20261128t094424-be2a3aa97a13','done',X'7761726420332F646F6E652E776176',1644,'65024','2148989','1795859064890993635','2026-11-28T09:44:24.891054+00:00','WAV (PCM)','audio/wav',0.1,NULL,'51070420d63a90f7515b88dc86c5dec19c42bbb9fa6a528d6a6ae53f11bce7f8',NULL,'76e4aea0-02ae-4cb3-a09c-0e2b9cdd8fa4',0,0,0,1644,'2026-11-28T09:44:24.952661+00:00','2026-11-28T09:44:24.961724+00:00','polling',X'7761726420332F646F6E652E776176',NULL,'2026-11-28T09:44:24.981822+00:00',NULL,1,NULL,NULL);
INSERT INTO "jobs" VALUES('20261128t094424-732698ccbe74','failed',X'6661696C65642E776176',1644,'65024','2148991','1795859064986331967','2026-11-28T09:44:24.986370+00:00','WAV (PCM)',NULL,0.1,'{"stage": "claimed", "code": "not_audio", "message": "It is no audio.", "hint": "Listen to it: what is it?", "retryable": false, "attempts": 0, "at": ""}',NULL,NULL,NULL,0,0,0,0,NULL,NULL,NULL,X'6661696C65642E776176','{"stage": "claimed", "code": "not_audio", "message": "It is no audio.", "hint": "Listen to it: what is it?", "retryable": false, "attempts": 0, "at": "2026-11-28T09:44:24.993Z"}','2026-11-28T09:44:25.001832+00:00',NULL,0,NULL,NULL);
INSERT INTO "jobs" VALUES('20261128t094425-bb078b8ff0f4','vanished',X'76616E69736865642E776176',1644,'65024','2148992','1795859065004408935','2026-11-28T09:44:25.004517+00:00','WAV (PCM)','audio/wav',0.1,NULL,'bbd0f179a625235c31a0b3af6369cb80fbb2732122c597f9edeadb76492b12a1',NULL,NULL,0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-28T09:44:25.025971+00:00',NULL,0,NULL,NULL);
INSERT INTO "jobs" VALUES('20261128t094425-8677a093ffd4','claimed',X'636C61696D65642E776176',1644,'65024','2148992','1795859065028390593','2026-11-28T09:44:25.028514+00:00','WAV (PCM)','audio/wav',0.1,NULL,NULL,NULL,NULL,0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-28T09:44:25.028528+00:00',NULL,0,NULL,NULL);
INSERT INTO "jobs" VALUES('20261128t094425-dfa34ca7ca07','identified',X'6964656E7469666965642E776176',1644,'65024','2149003','1795859065034830291','2026-11-28T09:44:25.034866+00:00','WAV (PCM)','audio/wav',0.1,NULL,'9ec4da2f5c6ac1d64c4fcf7dfd1dd51680e7c83af68b2648b081430e7013f26a',NULL,NULL,0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-28T09:44:25.043434+00:00',NULL,0,NULL,NULL);
INSERT INTO "jobs" VALUES('20261128t094425-b15d37325ed0','uploading',X'75706C6F6164696E672E776176',1644,'65024','2149005','1795859065049376080','2026-11-28T09:44:25.049408+00:00','WAV (PCM)','audio/wav',0.1,NULL,'d665392e1df486748edae748fcd808d63a252a44ea06f824080194675499eef2',NULL,'eb0bfd80-04ca-48ef-be5f-12a9fc269015',0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-28T09:44:25.064058+00:00',NULL,0,NULL,NULL);
INSERT INTO "jobs" VALUES('20261128t094425-308c978afaa1','waiting',X'77616974696E672E776176',1644,'65024','2149008','1795859065072883597','2026-11-28T09:44:25.072921+00:00','WAV (PCM)','audio/wav',0.1,NULL,'814b6cc451b0711b0397f432381549ec7bf8cd58869ffb5b24201752c7dae42b',NULL,'e48865ba-9767-4979-b1e2-f517e8856182',0,0,0,1644,'2026-11-28T09:44:25.115826+00:00',NULL,NULL,NULL,NULL,'2026-11-28T09:44:25.115958+00:00',NULL,0,NULL,NULL);
INSERT INTO "jobs" VALUES('20261128t094425-2b507b27bbba','identified',X'636F70792E776176',1644,'65024','2149016','1795859065138265662','2026-11-28T09:44:25.138306+00:00','WAV (PCM)','audio/wav',0.1,NULL,'814b6cc451b0711b0397f432381549ec7bf8cd58869ffb5b24201752c7dae42b','20261128t094425-308c978afaa1',NULL,0,0,0,0,NULL,NULL,NULL,NULL,NULL,'2026-11-28T09:44:25.150609+00:00',NULL,0,NULL,NULL);
INSERT INTO "jobs" VALUES('20261128t094425-186d9067a1b3','transcribed',X'7472616E736372696265642E776176',1644,'65024','2149018','1795859065153346665','2026-11-28T09:44:25.153382+00:00','WAV (PCM)','audio/wav',0.1,NULL,'52ea7ddaee93c6b3ebbeb2927651ec6466c91d65eb75b836f26f41480517672a',NULL,'b8850b62-a913-4adf-b436-8c3aea0f96d1',0,0,0,1644,'2026-11-28T09:44:25.178202+00:00','2026-11-28T09:44:25.188163+00:00','polling',X'7472616E736372696265642E776176',NULL,'2026-11-28T09:44:25.188363+00:00',X'7472616E736372696265642E',0,NULL,NULL);
INSERT INTO "jobs" VALUES('20261128t094425-40cec985b929','delivered',X'64656C6976657265642E776176',1644,'65024','2149023','1795859065198577635','2026-11-28T09:44:25.198614+00:00','WAV (PCM)','audio/wav',0.1,NULL,'f47ad1cf6d0a19dc5600b6a6f2c430f72199880dee297cdc13d61933dcdb2653',NULL,'fbcf6165-646f-475a-a2dc-bca2a51c50e9',0,0,0,1644,'2026-11-28T09:44:25.299591+00:00','2026-11-28T09:44:25.321934+00:00','polling',X'64656C6976657265642E776176',NULL,'2026-11-28T09:44:25.368661+00:00',X'64656C6976657265642E',0,NULL,NULL);
INSERT INTO "jobs" VALUES('20261128t094425-dd7ae547e098','failing',X'6661696C696E672E776176',1644,'65024','2149032','1795859065405687872','2026-11-28T09:44:25.405732+00:00','WAV (PCM)','audio/wav',0.1,NULL,'379340ccaca81334cfa388767ebf649088b2eec5e2c506acc66848d9accb2ddf',NULL,NULL,0,0,0,0,NULL,NULL,NULL,X'6661696C696E672E776176','{"stage": "identified", "code": "truncated", "message": "It was cut off.", "hint": "Copy it again.", "retryable": false, "attempts": 0, "at": "2026-11-28T09:44:25.468Z"}','2026-11-28T09:44:25.469110+00:00',X'6661696C65643A6661696C696E672E776176',0,NULL,NULL);
CREATE TABLE notices (
	request_id TEXT NOT NULL, 
	content_sha256 VARCHAR NOT NULL, 
	payload TEXT NOT NULL, 
	at VARCHAR NOT NULL, 
	PRIMARY KEY (request_id)
);
INSERT INTO "notices" VALUES('e48865ba-9767-4979-b1e2-f517e8856182','f23579efe34c958b328fd9939488c8c91c9055738116b1786e7231ab7774fcc1','{"requestId": "e48865ba-9767-4979-b1e2-f517e8856182", "processingStatus": "COMPLETED"}','2026-11-28T09:44:25.132636+00:00');
CREATE TABLE replies (
	job_id VARCHAR NOT NULL, 
	reply TEXT NOT NULL, 
	PRIMARY KEY (job_id)
);
INSERT INTO "replies" VALUES('20261128t094424-be2a3aa97a13','{"transcription": [{"text": "This is recording 51070420d63a.", "start": 0.0, "end": 1.5, "speakerId": "Speaker_00"}, {"text": "Is that what was dictated?", "start": 1.5, "end": 3.25, "speakerId": "Speaker_01"}, {"text": "No, only the first digits of its checksum: 51070420d63a.", "start": 3.5, "end": 5.0, "speakerId": "Speaker_00"}], "processingStatus": "COMPLETED", "vttTranscription": "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nThis is recording 51070420d63a.\n\n00:00:01.500 --> 00:00:03.250\nIs that what was dictated?\n\n00:00:03.500 --> 00:00:05.000\nNo, only the first digits of its checksum: 51070420d63a.\n"}');
INSERT INTO "replies" VALUES('20261128t094425-186d9067a1b3','{"transcription": [{"text": "This is recording 52ea7ddaee93.", "start": 0.0, "end": 1.5, "speakerId": "Speaker_00"}, {"text": "Is that what was dictated?", "start": 1.5, "end": 3.25, "speakerId": "Speaker_01"}, {"text": "No, only the first digits of its checksum: 52ea7ddaee93.", "start": 3.5, "end": 5.0, "speakerId": "Speaker_00"}], "processingStatus": "COMPLETED", "vttTranscription": "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nThis is recording 52ea7ddaee93.\n\n00:00:01.500 --> 00:00:03.250\nIs that what was dictated?\n\n00:00:03.500 --> 00:00:05.000\nNo, only the first digits of its checksum: 52ea7ddaee93.\n"}');
INSERT INTO "replies" VALUES('20261128t094425-40cec985b929','{"transcription": [{"text": "This is recording f47ad1cf6d0a.", "start": 0.0, "end": 1.5, "speakerId": "Speaker_00"}, {"text": "Is that what was dictated?", "start": 1.5, "end": 3.25, "speakerId": "Speaker_01"}, {"text": "No, only the first digits of its checksum: f47ad1cf6d0a.", "start": 3.5, "end": 5.0, "speakerId": "Speaker_00"}], "processingStatus": "COMPLETED", "vttTranscription": "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nThis is recording f47ad1cf6d0a.\n\n00:00:01.500 --> 00:00:03.250\nIs that what was dictated?\n\n00:00:03.500 --> 00:00:05.000\nNo, only the first digits of its checksum: f47ad1cf6d0a.\n"}');
CREATE TABLE signatures (
	sha256 VARCHAR NOT NULL, 
	content_sha256 VARCHAR NOT NULL, 
	PRIMARY KEY (sha256)
);
INSERT INTO "signatures" VALUES('5151515151515151515151515151515151515151515151515151515151515151','f23579efe34c958b328fd9939488c8c91c9055738116b1786e7231ab7774fcc1');
CREATE INDEX ix_jobs_state ON jobs (state);
CREATE INDEX ix_jobs_hook_due ON jobs (hook_due);
CREATE INDEX ix_jobs_sha256 ON jobs (sha256);
CREATE INDEX ix_jobs_request_id ON jobs (request_id);
CREATE INDEX ix_history_job_id ON history (job_id);
COMMIT;
PRAGMA user_version = 2;
