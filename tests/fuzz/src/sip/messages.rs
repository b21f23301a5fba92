//! Messages as they are sent, and as RFC 4475 would have them, with what is in them.

use voip_ha_ebpf::sip::Kind;

/// A message and what is to be found in it.
#[cfg_attr(not(test), expect(dead_code, reason = "the tests read what is to be found"))]
pub(super) struct Example {
    pub(super) name: &'static str,
    text: &'static str,
    pub(super) kind: Kind,
    pub(super) call: &'static str,
    pub(super) to_tag: bool,
}

impl Example {
    /// With these line ends.
    pub(super) fn bytes(&self, line_end: &str) -> Vec<u8> {
        self.text.replace('\n', line_end).into_bytes()
    }
}

const fn example(name: &'static str, kind: Kind, call: &'static str, to_tag: bool, text: &'static str) -> Example {
    Example { name, text, kind, call, to_tag }
}

/// All of them.
pub(super) static ALL: [Example; 18] = [
    example(
        "sipp, the built-in caller",
        Kind::Initial,
        "1-3921@10.0.0.9",
        false,
        "INVITE sip:service@192.0.2.10:5060 SIP/2.0
Via: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK-3921-1-0
From: sipp <sip:sipp@10.0.0.9:5060>;tag=3921SIPpTag001
To: service <sip:service@192.0.2.10:5060>
Call-ID: 1-3921@10.0.0.9
CSeq: 1 INVITE
Contact: sip:sipp@10.0.0.9:5060
Max-Forwards: 70
Subject: Performance Test
Content-Type: application/sdp
Content-Length:   129

v=0
o=user1 53655765 2353687637 IN IP4 10.0.0.9
s=-
c=IN IP4 10.0.0.9
t=0 0
m=audio 6000 RTP/AVP 0
a=rtpmap:0 PCMU/8000
",
    ),
    example(
        "sipp, its acknowledgement",
        Kind::Inside,
        "1-3921@10.0.0.9",
        true,
        "ACK sip:service@192.0.2.10:5060 SIP/2.0
Via: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK-3921-1-5
From: sipp <sip:sipp@10.0.0.9:5060>;tag=3921SIPpTag001
To: service <sip:service@192.0.2.10:5060>;tag=77SIPpTag011
Call-ID: 1-3921@10.0.0.9
CSeq: 1 ACK
Content-Length: 0

",
    ),
    example(
        "Kamailio, forwarding",
        Kind::Initial,
        "c3Jjb3JlLjE3MjYwNjc2NjI@203.0.113.5",
        false,
        "INVITE sip:+493012345@10.0.0.2;user=phone SIP/2.0
Record-Route: <sip:192.0.2.10;lr;ftag=as5a1b>
Via: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK1f3d.8a9b7c6d5e4f3a2b1c0d.0
Via: SIP/2.0/UDP 203.0.113.5:5062;received=203.0.113.5;branch=z9hG4bK-d8754z;rport=5062
Max-Forwards: 16
From: <sip:alice@example.com>;tag=as5a1b
To: <sip:+493012345@example.com;user=phone;tag=none>
Call-ID: c3Jjb3JlLjE3MjYwNjc2NjI@203.0.113.5
CSeq: 102 INVITE
Content-Length: 0

",
    ),
    example(
        "Asterisk, calling",
        Kind::Initial,
        "0b4d8c2f-6f3b-4f9a-9a0d-6b7c1f6f2a10",
        false,
        "INVITE sip:200@198.51.100.20:5060;ob SIP/2.0
Via: SIP/2.0/UDP 10.0.0.2:5060;rport;branch=z9hG4bKPj5e5d7c1a-0a1b
From: \"100 \\\"desk\\\" ;tag=no\" <sip:100@10.0.0.2>;tag=4bd3ac8a
To: <sip:200@198.51.100.20;ob>
Contact: <sip:asterisk@10.0.0.2:5060>
Call-ID: 0b4d8c2f-6f3b-4f9a-9a0d-6b7c1f6f2a10
CSeq: 31337 INVITE
Allow: OPTIONS, REGISTER, SUBSCRIBE, NOTIFY, PUBLISH, INVITE, ACK, BYE, CANCEL, UPDATE, PRACK, INFO, MESSAGE, REFER
Supported: 100rel, timer, replaces, norefersub, histinfo
Max-Forwards: 70
User-Agent: Asterisk PBX 20.5.0
Content-Length: 0

",
    ),
    example(
        "Asterisk, hanging up",
        Kind::Bye,
        "0b4d8c2f-6f3b-4f9a-9a0d-6b7c1f6f2a10",
        true,
        "BYE sip:200@198.51.100.20:5060;ob SIP/2.0
Via: SIP/2.0/UDP 10.0.0.2:5060;rport;branch=z9hG4bKPjd1
From: <sip:100@10.0.0.2>;tag=4bd3ac8a
To: <sip:200@198.51.100.20;ob>;tag=d0a1
Call-ID: 0b4d8c2f-6f3b-4f9a-9a0d-6b7c1f6f2a10
CSeq: 31338 BYE
Reason: Q.850;cause=16
Content-Length:  0

",
    ),
    example(
        "FreeSWITCH, on hold",
        Kind::Initial,
        "e7a1d9d3-3b2f-123d-5c8a-0242ac110002",
        true,
        "INVITE sip:gw+carrier@203.0.113.77:5080;transport=udp;gw=carrier SIP/2.0
Via: SIP/2.0/UDP 10.8.0.2;rport;branch=z9hG4bKc8yF4r8B5pK2e
Max-Forwards: 69
From: \"Extension 1000\" <sip:1000@10.8.0.2>;tag=BvZ8SH5e6N8gD
To: \"+4930555\" <sip:+4930555@203.0.113.77>; tag=as0f7e2a
Call-ID: e7a1d9d3-3b2f-123d-5c8a-0242ac110002
CSeq: 118273646 INVITE
Contact: <sip:mod_sofia@10.8.0.2:5060>
User-Agent: FreeSWITCH-mod_sofia/1.10.9
Content-Length: 0

",
    ),
    example(
        "an answer that rings",
        Kind::Provisional,
        "1-3921@10.0.0.9",
        true,
        "SIP/2.0 180 Ringing
Via: SIP/2.0/UDP 10.0.0.9:5060;branch=z9hG4bK-3921-1-0
From: sipp <sip:sipp@10.0.0.9:5060>;tag=3921SIPpTag001
To: service <sip:service@192.0.2.10:5060>;TAG=77SIPpTag011
Call-ID: 1-3921@10.0.0.9
CSeq: 1 INVITE
Content-Length: 0

",
    ),
    example(
        "a final answer with compact names",
        Kind::Final,
        "a84b4c76e66710",
        true,
        "SIP/2.0 486 Busy Here
v: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bK776asdhds
f:Alice <sip:alice@atlanta.com>;tag=1928301774
t:Bob <sip:bob@biloxi.com>;tag=a6c85cf
i:a84b4c76e66710
CSeq: 314159 INVITE
l:0

",
    ),
    example(
        "a cancelled call, whose receiver has no tag yet",
        Kind::Inside,
        "3848276298220188511@atlanta.example.com",
        false,
        "CANCEL sip:bob@biloxi.example.com SIP/2.0
Via: SIP/2.0/UDP client.atlanta.example.com:5060;branch=z9hG4bK74bf9
Max-Forwards: 70
From: Alice <sip:alice@atlanta.example.com>;tag=9fxced76sl
To: Bob <sip:bob@biloxi.example.com>
Route: <sip:ss1.atlanta.example.com;lr>
CALL-ID:3848276298220188511@atlanta.example.com
CSeq: 1 CANCEL
Content-Length: 0

",
    ),
    example("to keep a mapping alive", Kind::None, "", false, "\n\n"),
    example("STUN", Kind::None, "", false, "\u{0}\u{1}\u{0}\u{0}!\u{12}\u{24}\u{42}\ni: no\n\n"),
    example(
        "RFC 4475, 3.1.1.1, wsinv",
        Kind::Initial,
        "wsinv.ndaksdj@192.0.2.1",
        true,
        "INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0
TO :
 sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n
from   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>
  ;
  tag = 98asjd8
MaX-fOrWaRdS: 0068
Call-ID: wsinv.ndaksdj@192.0.2.1
Content-Length   : 150
cseq: 0009
  INVITE
Via  : SIP  /   2.0
 /UDP
    192.0.2.2;branch=390skdjuw
s :
NewFangledHeader:   newfangled value
 continued newfangled value
UnknownHeaderWithUnusualValue: ;;,,;;,;
Content-Type: application/sdp
Route:
 <sip:services.example.com;lr;unknownwith=value;unknown-no-value>

v=0
",
    ),
    example(
        "RFC 4475, 3.1.1.2, intmeth",
        Kind::Initial,
        "intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{",
        false,
        "!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com SIP/2.0
Via: SIP/2.0/TCP host1.example.com;branch=z9hG4bK-.!%66*_+`'~
To: \"BEL:\\\u{7} NUL:\\\u{0} DEL:\\\u{7f}\" <sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*@example.com>
From: token1~` token2'+_ token3*%!.- <sip:mundane@example.com>;fromParam''~+*_!.-%=\"\u{440}\u{430}\";tag=_token~1'+`*%!-.
Call-ID: intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{
CSeq: 139122385 !interesting-Method0123456789_*+`.%indeed'~
Max-Forwards: 255
Content-Length: 0

",
    ),
    example(
        "RFC 4475, 3.1.1.3, esc01",
        Kind::Initial,
        "esc01.239409asdfakjkn23onasd0-3234",
        false,
        "INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0
To: sip:%75se%72@example.com
From: <sip:I%20have%20spaces@example.net>;tag=938
Max-Forwards: 87
i: esc01.239409asdfakjkn23onasd0-3234
CSeq: 234234 INVITE
Via: SIP/2.0/UDP host5.example.net;branch=z9hG4bKkdjuw
C: application/sdp
Contact:
  <sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31>
Content-Length: 150

v=0
",
    ),
    example(
        "RFC 4475, 3.1.1.7, longreq, with fewer Vias",
        Kind::Initial,
        "longreq.onereallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreally\
         reallyreallyreallylongcallid",
        false,
        "INVITE sip:user@example.com SIP/2.0
To: \"I have a user name of extremeextremeextremeextremeextremeextremeextremeextremeextremeextreme proportion\"\
<sip:user@example.com:6000;unknownparam1=verylonglonglonglonglonglonglonglonglongvalue;longparamname=shortvalue;\
verylonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglonglongParameterNameWithNoValue>
F: sip:amazinglylongcallernameamazinglylongcallernameamazinglylongcallername@example.net;tag=12982982982982424;\
unknownheaderparamnamenamenamename=unknowheaderparamvaluevaluevalue
Call-ID: longreq.onereallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreallyreally\
reallyreallyreallylongcallid
CSeq: 3882340 INVITE
Unknown-LongLongLongLongLongLongLongLongLongLongLongLongLongLong-Name: unknown-longlonglonglonglonglonglong-value
l: 0

",
    ),
    example(
        "RFC 4475, 3.1.1.9, semiuri, with the Call-ID folded and last",
        Kind::Initial,
        "semiuri.0ha0isndaksdj",
        false,
        "OPTIONS sip:user;par=u%40example.net@example.com SIP/2.0
To: sip:j_user@example.com
From: sip:caller@example.org;tag=33242
Max-Forwards: 3
CSeq: 8 OPTIONS
Accept: application/sdp, application/pkcs7-mime,
        multipart/mixed, multipart/signed,
        message/sip, message/sipfrag
Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKkdjuw
l: 0
Call-ID\t:
\t
 semiuri.0ha0isndaksdj

",
    ),
    example(
        "RFC 4475, 3.1.1.13, noreason",
        Kind::Provisional,
        "noreason.asndj203insdf99223ndf",
        true,
        "SIP/2.0 100\u{20}
Via: SIP/2.0/UDP 192.0.2.105;branch=z9hG4bK2398ndaoe
Call-ID: noreason.asndj203insdf99223ndf
CSeq: 35 INVITE
From: <sip:user@example.com>;tag=39ansfi3
To: <sip:user@example.edu>;tag=902jndnke3
Content-Length: 0
Contact: <sip:user@host105.example.com>

",
    ),
    example(
        "a Call-ID in the body only",
        Kind::Initial,
        "",
        false,
        "INVITE sip:user@example.com SIP/2.0
Max-Forwards: 80

Call-ID: body@example.com
To: sip:body@example.com;tag=1
",
    ),
];
