#!/usr/bin/env escript
%% Writes test/data/term_golden.hpp: terms as a real node encodes and prints
%% them. Run it with OTP 25:
%%
%%   escript test/data/term_golden.escript > test/data/term_golden.hpp

-mode(compile).

main(_) ->
    ok = io:setopts([{encoding, unicode}]),
    io:put_chars(
        "// Written by term_golden.escript from a real OTP " ++ erlang:system_info(otp_release) ++
            " node; do not edit.\n\n"
            "#pragma once\n\n"
            "namespace test {\n\n"
            "struct golden_term {\n"
            "  const char* external; // term_to_binary/2, minor_version 2\n"
            "  const char* old;      // minor_version 0\n"
            "  const char* packed;   // compressed\n"
            "  const char* printed;  // ~0tp\n"
            "};\n\n"
            "inline constexpr golden_term golden_terms[] = {\n"
    ),
    [row(T) || T <- terms()],
    io:put_chars("};\n\n} // namespace test\n").

row(T) ->
    Printed = unicode:characters_to_binary(io_lib:format("~0tp", [T])),
    io:put_chars([
        "    {", literal(hex(term_to_binary(T, [{minor_version, 2}]))), ",\n     ",
        literal(hex(term_to_binary(T, [{minor_version, 0}]))), ",\n     ",
        literal(hex(term_to_binary(T, [compressed]))), ",\n     ",
        literal(escaped(Printed)), "},\n"
    ]).

hex(B) ->
    [io_lib:format("~2.16.0b", [C]) || <<C>> <= B].

%% Long ones in pieces: a column has 80 characters.
literal(Tokens) ->
    ["\"", pieces([iolist_to_binary(T) || T <- Tokens], 0), "\""].

pieces([Token | Rest], Column) when Column + byte_size(Token) > 64 ->
    ["\"\n     \"", Token | pieces(Rest, byte_size(Token))];
pieces([Token | Rest], Column) ->
    [Token | pieces(Rest, Column + byte_size(Token))];
pieces([], _) ->
    [].

%% As a C string: hexadecimal would run on into the next digit, octal does not.
escaped(B) ->
    [
        case C of
            $\\ -> "\\\\";
            $" -> "\\\"";
            $? -> "\\?";
            _ when C < 32; C > 126 -> io_lib:format("\\~3.8.0b", [C]);
            _ -> [C]
        end
     || <<C>> <= B
    ].

terms() ->
    [
        0, 1, 255, 256, -1, 16#7FFFFFFF, -16#80000000, 16#80000000, 1 bsl 59, -(1 bsl 60),
        (1 bsl 63) - 1, -(1 bsl 63), 1 bsl 63, (1 bsl 64) - 1, 1 bsl 64, -(1 bsl 100),
        123456789012345678901234567890, 1 bsl 2048,
        0.0, -0.0, 1.0, -1.5, 0.1, 1.0e10, 123456.0, 1.0e22, 1.0e21, 123456789.125, 1.0e-5, 0.001,
        1.0e100, 1.7976931348623157e308, 5.0e-324, 9007199254740992.0, 9007199254740991.0,
        100000.0, 1000000.0,
        a, 'A', '', 'a b', 'it\'s', 'a@b', a_1, 'end', 'maybe', '1a', '\n', [229], '_',
        list_to_atom("\x{e5}"), list_to_atom("a\x{e5}"), list_to_atom("\x{20ac}"),
        list_to_atom(lists:duplicate(255, $x)), list_to_atom(lists:duplicate(255, 16#20AC)),
        [], "abc", "a\"b\\c\n\t\e", [1, 2, 3], [0], [a], [a | b], [1, 2 | 3], [[]], [[a], "b", <<"c">>],
        [97 | <<"x">>], [a | "bc"], lists:seq(1, 300), [256, 97], [97, 256], "\x{e5}\x{e4}", [127],
        <<>>, <<"abc">>, <<1, 2, 3>>, <<"a\"b\n">>, <<0, 97>>, <<5:3>>, <<1, 5:3>>, <<"abc", 1:1>>,
        <<"\x{e5}\x{e4}"/utf8>>, <<229, 228>>, <<"\x{20ac}"/utf8>>, <<97, 16#C3>>,
        {}, {a}, {a, 1, "x"}, {{{}}}, erlang:make_tuple(300, z),
        #{}, #{a => 1}, #{a => 1, b => #{c => d}}, #{1 => a, "x" => <<"y">>, [] => {}},
        fun lists:map/2, fun 'A':'b c'/255
    ].
